import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gpw_cli.errors import CheckpointError
from gpw_cli.models.checkpoint import adapt_state, detect_model, import_checkpoint, load_state
from gpw_cli.models.registry import build_model


def network(name="resnet20", shortcut="A", classes=10):
    torch.manual_seed(0)
    return build_model(name, classes, 1 if name == "digits_cnn" else 3, shortcut)


def saved(tmp_path, content, name="x.pt"):
    path = tmp_path / name
    torch.save(content, path)
    return path


def same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_and_prefixes(tmp_path, wrapper, prefix):
    source, target = network(), build_model("resnet20", 10, 3, "A")
    state = {prefix + key: tensor for key, tensor in source.state_dict().items()}
    content = state if wrapper is None else {"epoch": 3, wrapper: state}
    import_checkpoint(saved(tmp_path, content), target)
    assert same(source, target)


def test_safetensors_by_content(tmp_path):
    source, target = network(), build_model("resnet20", 10, 3, "A")
    save_file(source.state_dict(), tmp_path / "weights.bin")
    import_checkpoint(tmp_path / "weights.bin", target)
    assert same(source, target)


def test_common_key_names_and_absent_counters():
    source = network(shortcut="B")
    foreign = {
        key.replace("linear", "fc").replace("shortcut", "downsample"): tensor
        for key, tensor in source.state_dict().items()
        if "num_batches_tracked" not in key
    }
    target = build_model("resnet20", 10, 3, "B")
    target.load_state_dict(adapt_state(foreign, target))
    assert same(source, target)
    assert detect_model(foreign) == ("resnet20", "B")


def test_own_key_names_are_never_renamed():
    state = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}
    model = nn.Sequential()
    model.add_module("fc", nn.Linear(3, 2))
    assert list(adapt_state(state, model)) == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("name", "shortcut"),
    [
        ("resnet20", "A"),
        ("resnet32", "B"),
        ("resnet44", "A"),
        ("resnet56", "B"),
        ("digits_cnn", "A"),
    ],
)
def test_detects_its_own_networks(name, shortcut):
    assert detect_model(network(name, shortcut, 7).state_dict()) == (name, shortcut)


def test_an_unknown_network_is_not_guessed():
    with pytest.raises(CheckpointError, match=r"model\.name=NAME"):
        detect_model({"weight": torch.zeros(2, 2), "kernel": torch.zeros(1, 1, 3, 3)})
    with pytest.raises(CheckpointError, match="fits none"):
        detect_model({"weight": torch.zeros(2)})


def test_another_network_is_named():
    with pytest.raises(CheckpointError, match=r"layer1\.3\.conv1\.weight is unexpected.*resnet32"):
        adapt_state(network("resnet32").state_dict(), network())
    with pytest.raises(CheckpointError, match=r"layer2\.0\.shortcut\.0\.weight is missing"):
        adapt_state(network().state_dict(), network(shortcut="B"))
    with pytest.raises(
        CheckpointError, match=r"linear\.weight is \[100, 64\] instead.*100 classes"
    ):
        adapt_state(network(classes=100).state_dict(), network())
    with pytest.raises(CheckpointError, match=r"gpw ls"):
        adapt_state({"w": torch.zeros(1)}, network())


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(tmp_path, zipped):
    target = tmp_path / "proof"
    path = tmp_path / "evil.pt"
    if zipped:
        torch.save({"state_dict": Evil(str(target))}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(str(target)), protocol=2))
    with pytest.raises(CheckpointError, match=r"pickled code \(posix.mkdir\)"):
        load_state(path)
    assert not target.exists()


def test_a_whole_module_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"torch\.save\(model\.state_dict\(\)"):
        load_state(saved(tmp_path, nn.Linear(2, 2)))


@pytest.mark.parametrize("keep", [0, 5, 9, 400, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_truncated_files(tmp_path, kind, keep):
    path = tmp_path / f"x.{kind}"
    state = {"weight": torch.ones(1000)}
    if kind == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it holds list"),
        ({"epoch": 3, "lr": 0.1}, "it holds epoch, lr"),
        ({}, "it holds nothing"),
        ({"model": {"a": 1}}, "it holds a"),
        ({"a": torch.tensor([1.0, float("nan")])}, "a holds values that are not finite"),
        ({"a": torch.tensor([float("inf")])}, "not finite"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "quantized or sparse"),
    ],
)
def test_what_is_no_state_dict(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        load_state(saved(tmp_path, content))


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        load_state(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="directory"):
        load_state(tmp_path)
    (tmp_path / "text.pt").write_text("hello world")
    with pytest.raises(CheckpointError, match="neither"):
        load_state(tmp_path / "text.pt")


@pytest.mark.parametrize(
    ("file", "name"), [("resnet20-12fca82f.th", "resnet20"), ("resnet56-4bfd9763.th", "resnet56")]
)
def test_published_checkpoints_are_recognised(shared, file, name):
    path = shared / "checkpoints" / file
    assert detect_model(load_state(path)) == (name, "A")
    import_checkpoint(path, build_model(name, 10, 3, "A"))
