import subprocess
import sys

import pytest
import torch

from gpw_cli.errors import UsageError
from gpw_cli.models.catalog import networks_in
from gpw_cli.models.checkpoint import detect_model
from gpw_cli.models.digits_cnn import DigitsCnn
from gpw_cli.models.inputs import TORCHVISION, model_input, model_names
from gpw_cli.models.registry import build_model
from gpw_cli.models.vision import import_torchvision

# Parameters of the published networks (He et al. 2016, Table 6: 0.27, 0.46, 0.66, 0.85 million).
CIFAR_PARAMETERS = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
}


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "count"), CIFAR_PARAMETERS.items())
def test_cifar_resnets_have_the_published_size(name, count):
    assert parameters(build_model(name, 10, 3, "A")) == count


def test_option_b_adds_two_projections_with_batch_norm():
    extra = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert parameters(build_model("resnet20", 10, 3, "B")) == CIFAR_PARAMETERS["resnet20"] + extra


@pytest.mark.parametrize("name", ["resnet20", "digits_cnn", "mlp", "squeezenet1_1", "mobilenet_v2"])
def test_logits_have_the_class_count(name):
    channels, size = model_input(name)
    model = build_model(name, 7, channels, "A").eval()
    assert model(torch.zeros(1, channels, min(size, 64), min(size, 64))).shape == (1, 7)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_auxiliary_classifiers_return_one_tensor(name):
    with torch.device("meta"):
        model = build_model(name, 7, 3, "A")
    assert not model.aux_logits


def test_digits_cnn_has_enough_tiles_to_prune():
    convolutions = [m for m in DigitsCnn(10, 1).modules() if isinstance(m, torch.nn.Conv2d)][1:]
    tiles = [(c.out_channels // 16) * (c.in_channels // 16) for c in convolutions]
    assert tiles == [4, 16, 24]


def test_digits_cnn_takes_colour():
    assert DigitsCnn(10, 3)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_written_list_is_torchvisions():
    models = import_torchvision().models
    assert sorted(TORCHVISION) == sorted(models.list_models(module=models))


def test_torchvision_is_imported_once():
    assert import_torchvision() is import_torchvision()


def test_inputs():
    assert model_input("resnet56") == (3, 32)
    assert model_input("digits_cnn") == (1, 16)
    assert model_input("inception_v3") == (3, 299)
    assert model_input("vgg11_bn") == (3, 224)
    depths = (8, 14, 20, 32, 44, 56)
    assert model_names()[:7] == [*(f"resnet{n}" for n in depths), "digits_cnn"]
    assert model_names()[7:9] == ["mlp", "alexnet_classifier"]


@pytest.mark.parametrize("function", [model_input, lambda name: build_model(name, 10, 3, "A")])
def test_a_typo_gets_a_suggestion(function):
    with pytest.raises(UsageError, match="did you mean resnet20"):
        function("resnt20")
    with pytest.raises(UsageError, match="gpw ls"):
        function("")


@pytest.mark.parametrize(
    ("name", "channels", "shortcut", "message"),
    [
        ("resnet20", 3, "C", "model.shortcut=C"),
        ("resnet20", 1, "A", "3 channels, not 1"),
        ("resnet18", 1, "A", "data.channels=3"),
    ],
)
def test_what_a_network_cannot_take(name, channels, shortcut, message):
    with pytest.raises(UsageError, match=message):
        build_model(name, 10, channels, shortcut)


def test_names_come_without_torch():
    code = (
        "import sys, gpw_cli.models.inputs, gpw_cli.data.catalog; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["resnet8", "digits_cnn", "mlp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_checkpoint_says_which_network_it_is_of(name: str, channels: int) -> None:
    try:
        state = build_model(name, 7, channels, "A").state_dict()
    except UsageError:  # CIFAR ResNets take colour only
        assert (name, channels) == ("resnet8", 1)
        return
    assert detect_model(state) == (name, "A")


def test_networks_are_declared_with_or_without_a_type() -> None:
    for text in ("NETWORKS", "NETWORKS: dict[str, tuple[int, int]]"):
        assert networks_in(f"{text} = {{'a': (1, 16)}}\n") == {"a": (1, 16)}
    assert networks_in("OTHER = {'a': (1, 16)}\n# NETWORKS = 1\n") == {}
