from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gpw_cli.config.recipe import LrSchedule, Padding, Precision, Recipe
from gpw_cli.data.images import Augment, Images, Split, batch, held_out, normalise
from gpw_cli.errors import DivergedError, UsageError
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.training import loop
from gpw_cli.training.dead import skip_dead
from gpw_cli.training.distill import Teacher
from gpw_cli.training.evaluate import accuracy, logits
from gpw_cli.training.loop import EpochRecord, FitOptions, fit
from gpw_cli.training.masking import Gradual
from gpw_cli.training.optimizer import learning_rate
from gpw_cli.training.randomness import derived_seed, generator

RECIPE = Recipe(
    epochs=4, batch_size=16, lr=0.05, precision=Precision.fp32, crop=1, padding=Padding.zero
)
CPU = torch.device("cpu")


def noise_images(count: int = 96, size: int = 8) -> Images:
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, size, size, 3), generator=stream, dtype=torch.uint8)
    labels = torch.randint(4, (count,), generator=stream)
    split = Split(images, labels)
    return Images("noise", split, split, tuple("abcd"), (0.5,) * 3, (0.25,) * 3, "noise")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def test_evaluation_uses_the_running_statistics_and_leaves_them_alone() -> None:
    model, data = network(), noise_images()
    fit(model, data, RECIPE, FitOptions("pretrain", 0, CPU))
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    before = [value.clone() for value in norm.state_dict().values()]
    model.train()
    found = logits(model, data.test, data, batch_size=7)
    assert model.training
    assert norm.training
    assert all(torch.equal(a, b) for a, b in zip(before, norm.state_dict().values(), strict=True))
    model.eval()
    with torch.no_grad():
        wanted = model(normalise(data.test.images, data.mean, data.std))
    torch.testing.assert_close(found, wanted)
    assert not torch.equal(wanted.argmax(1), wanted.argmin(1))
    assert accuracy(model, data.test, data) == pytest.approx(
        100 * float((wanted.argmax(1) == data.test.labels).double().mean())
    )


def test_a_seed_is_a_run_and_another_seed_is_another() -> None:
    def trained(seed: int) -> Tensor:
        model = network()  # the same weights at the start, whatever the seed
        fit(model, noise_images(), RECIPE, FitOptions("pretrain", seed, CPU))
        return model.state_dict()["0.weight"]

    assert torch.equal(trained(3), trained(3))
    assert not torch.equal(trained(3), trained(4))


@pytest.mark.parametrize("nesterov", [True, False])
def test_two_steps_of_sgd_by_hand(nesterov: bool) -> None:
    """v = m v + g + decay w; w -= lr (g + decay w + m v with Nesterov, v without)."""
    data = noise_images(count=32)
    recipe = Recipe(
        epochs=2, batch_size=32, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov,
        schedule=LrSchedule.step, milestones=[9], precision=Precision.fp32, crop=0, flip=False,
        decay_norm=True, label_smoothing=0.0,
    )  # fmt: skip
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4, bias=False))
    weight = model[1].weight.detach().clone().requires_grad_()
    fit(model, data, recipe, FitOptions("pretrain", 0, CPU))
    x = normalise(data.train.images, data.mean, data.std).flatten(1)
    velocity = torch.zeros_like(weight)
    for _ in range(2):
        loss = nn.functional.cross_entropy(x @ weight.T, data.train.labels)
        (gradient,) = torch.autograd.grad(loss, weight)
        gradient = gradient + 0.01 * weight.detach()
        velocity = 0.9 * velocity + gradient
        step = gradient + 0.9 * velocity if nesterov else velocity
        weight = (weight.detach() - 0.1 * step).requires_grad_()
    torch.testing.assert_close(model[1].weight.detach(), weight.detach())


class Killed(Exception):
    pass


def train(model: nn.Module, checkpoint: Path, stop_after: int = 99) -> list[EpochRecord]:
    def stop(record: EpochRecord) -> None:
        if record.epoch == stop_after:
            raise Killed

    options = FitOptions("pretrain", 3, CPU)
    return fit(model, noise_images(), RECIPE, options, checkpoint=checkpoint, on_epoch=stop)


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = network()
    full = train(whole, tmp_path / "whole.safetensors")
    broken = tmp_path / "broken.safetensors"
    with pytest.raises(Killed):
        train(network(), broken, stop_after=2)
    resumed = network()
    history = train(resumed, broken)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    strip = [dataclasses.replace(row, seconds=0.0) for row in full]
    assert [dataclasses.replace(row, seconds=0.0) for row in history] == strip
    assert [row.epoch for row in history] == [1, 2, 3, 4]


def test_a_damaged_checkpoint_starts_anew(tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.safetensors"
    checkpoint.write_bytes(b"half a file")
    assert len(train(network(), checkpoint)) == RECIPE.epochs


def test_masked_weights_stay_exactly_zero() -> None:
    model = network()
    mask = torch.rand(8, 3, 3, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    recipe = dataclasses.replace(RECIPE, nesterov=True, weight_decay=1e-2)
    fit(model, noise_images(), recipe, FitOptions("finetune", 0, CPU), masks={"0.weight": mask})
    weight: Tensor = model.state_dict()["0.weight"]
    assert torch.count_nonzero(weight[~mask]) == 0
    assert torch.count_nonzero(weight[mask]) == int(mask.sum())


def test_divergence_is_an_error_with_advice() -> None:
    recipe = dataclasses.replace(RECIPE, lr=1e20, warmup=0.0)
    with pytest.raises(DivergedError, match=r"pretrain: the loss is not finite in epoch 1"):
        fit(network(), noise_images(), recipe, FitOptions("pretrain", 0, CPU))


def test_schedules() -> None:
    step = Recipe(schedule=LrSchedule.step, lr=0.1, milestones=[100, 150], epochs=200)
    assert [round(learning_rate(step, e * 10, 10), 6) for e in (0, 99, 100, 149, 150, 199)] == [
        0.1,
        0.1,
        0.01,
        0.01,
        0.001,
        0.001,
    ]
    cycle = Recipe(schedule=LrSchedule.onecycle, lr=0.2, warmup=0.2, epochs=10)
    rates = [learning_rate(cycle, i, 10) for i in range(100)]
    assert rates[0] == pytest.approx(0.008)
    assert max(rates) == rates[20] == pytest.approx(0.2)
    assert rates[-1] == pytest.approx(0.2 / 80)
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_rewinding_repeats_the_last_rates_of_the_schedule() -> None:
    whole = Recipe(epochs=10, lr=1.0, schedule=LrSchedule.step, milestones=[5, 8])
    options = FitOptions("finetune", 0, CPU, schedule=whole, offset=7)
    recipe = dataclasses.replace(RECIPE, epochs=3)
    records = fit(network(), noise_images(), recipe, options)
    assert [record.epoch for record in records] == [1, 2, 3]
    assert [record.lr for record in records] == pytest.approx([0.1, 0.01, 0.01])


def halves(model: nn.Module, full: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Removes the smaller weights of the convolution; at the last step, the larger ones."""
    weight = full["0.weight"].abs()
    order = weight if share < 1 else -weight
    return {"0.weight": order > order.flatten().kthvalue(int(share * weight.numel() / 2)).values}


def test_gradual_masks_change_and_weights_grow_back(tmp_path: Path) -> None:
    recipe, gradual = dataclasses.replace(RECIPE, epochs=5), Gradual.cubic(2, 4, halves)
    assert gradual.shares == {0: pytest.approx(0.875), 2: 1.0}
    seen: list[Tensor] = []

    def run(model: nn.Module, checkpoint: Path, stop_after: int) -> None:
        def stop(record: EpochRecord) -> None:
            seen.append((model.get_parameter("0.weight") == 0).clone())
            if record.epoch == stop_after:
                raise Killed

        options = FitOptions("finetune", 3, CPU)
        fit(
            model, noise_images(), recipe, options, gradual=gradual, checkpoint=checkpoint,
            on_epoch=stop,
        )  # fmt: skip

    whole = network()
    run(whole, tmp_path / "whole", 99)
    assert [int(zeros.sum()) for zeros in seen] == [94, 94, 108, 108, 108]
    assert (seen[1] & ~seen[2]).sum() == 94  # every weight removed first is back
    for moment in (1, 2, 3, 4):
        model = network()
        with pytest.raises(Killed):
            run(model, tmp_path / str(moment), moment)
        again = network()
        run(again, tmp_path / str(moment), 99)
        state = whole.state_dict()
        assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())


def test_a_teacher_is_asked_once_and_changes_the_loss(tmp_path: Path) -> None:
    asked = 0

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal asked
            asked += 1
            return torch.nn.functional.one_hot(torch.arange(len(x)) % 4, 4).float() * 8

    def run(temperature: float, cache: Path | None) -> tuple[nn.Module, list[EpochRecord]]:
        teacher = Teacher(Counted(), temperature, 0.5, CPU, cache=cache)
        model = network()
        return model, fit(model, noise_images(), RECIPE, FitOptions("finetune", 3, CPU, teacher))

    first, records = run(4.0, tmp_path / "said")
    assert asked == 6 * RECIPE.epochs
    again, same = run(4.0, tmp_path / "said")
    alone, _ = run(4.0, None)
    assert asked == 6 * RECIPE.epochs * 2
    weights = [model.state_dict() for model in (first, again, alone)]
    assert all(torch.equal(weights[0][key], w[key]) for w in weights[1:] for key in w)
    assert [r.loss for r in records] == [r.loss for r in same]
    other, _ = run(1.0, tmp_path / "said")
    assert not torch.equal(other.state_dict()["5.weight"], weights[0]["5.weight"])


def test_the_distillation_loss_is_the_published_one() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    teacher = Teacher(nn.Identity(), 4.0, 0.9, CPU)
    teacher.begin(0, 1)
    out, hard = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor(0.7)
    p, q = (torch.softmax(value / 4, 1) for value in (logits, out))
    expected = 0.1 * 0.7 + 0.9 * 16 * float((p * (p / q).log()).sum())
    assert float(teacher.loss(out, hard, 0, logits)) == pytest.approx(expected, rel=1e-5)


def test_held_out_images_are_not_trained_on() -> None:
    whole = noise_images(96)
    split = held_out(whole, 30)
    assert (len(split.train), len(split.test)) == (66, 30)
    rows = [row.tobytes() for part in (split.train, split.test) for row in part.images.numpy()]
    assert sorted(rows) == sorted(row.tobytes() for row in whole.train.images.numpy())
    again = held_out(whole, 30)
    assert torch.equal(split.test.images, again.test.images)
    assert held_out(whole, 0) is whole
    with pytest.raises(UsageError, match=r"use at most data\.validation=95"):
        held_out(whole, 96)


def test_random_streams_differ_by_every_part() -> None:
    seeds = {derived_seed(s, t, e) for s in (0, 1) for t in ("a", "b") for e in (0, 1)}
    assert len(seeds) == 8
    one, two = generator(1, "a", 2), generator(1, "a", 2)
    assert torch.equal(torch.randperm(99, generator=one), torch.randperm(99, generator=two))


def test_crop_and_flip_move_pixels_as_a_padded_copy_would() -> None:
    data = noise_images(count=8, size=6)
    rows = torch.arange(8)
    for reflect in (True, False):
        x, y = batch(data.train, rows, data, Augment(2, reflect, True), generator(0, "t", 0))
        assert torch.equal(y, data.train.labels)
        nchw = data.train.images.permute(0, 3, 1, 2).float()
        mode = "reflect" if reflect else "constant"
        padded = nn.functional.pad(nchw, (2, 2, 2, 2), mode=mode)
        for index in range(8):
            windows = [
                normalise(
                    padded[index : index + 1, :, i : i + 6, j : j + 6].permute(0, 2, 3, 1),
                    data.mean,
                    data.std,
                )[0]
                for i in range(5)
                for j in range(5)
            ]
            found = [torch.allclose(x[index], w) for w in windows]
            found += [torch.allclose(x[index], w.flip(2)) for w in windows]
            assert any(found)


def test_no_augmentation_is_the_identity() -> None:
    data = noise_images(count=4)
    x, _ = batch(data.train, torch.tensor([2, 0]), data, Augment(), generator(0, "t", 0))
    assert torch.equal(x, normalise(data.train.images[[2, 0]], data.mean, data.std))
    expected = (data.train.images[2].permute(2, 0, 1).double() / 255 - 0.5) / 0.25
    assert torch.allclose(x[0].double(), expected, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_a_dead_convolution_gives_what_zero_weights_give(bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=bias)
    model = nn.Sequential(conv, nn.ReLU())
    with torch.no_grad():
        conv.weight.zero_()
    x = torch.randn(2, 3, 9, 7)
    expected = model(x)
    masks = {"0.weight": torch.zeros(8, 3, 3, 3, dtype=torch.bool)}
    with skip_dead(model, masks) as dead:
        assert dead == ["0"]
        assert torch.equal(model(x), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert conv(x).dtype is torch.bfloat16
    assert "forward" not in vars(conv)
    with skip_dead(model, {"0.weight": torch.ones(8, 3, 3, 3, dtype=torch.bool)}) as dead:
        assert dead == []


def test_skipping_dead_layers_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = cifar_resnet(20, 4)
        masks = {
            name: torch.zeros_like(weight, dtype=torch.bool)
            for name, weight in model.named_parameters()
            if name.startswith("layer2.1.conv") or name == "layer3.0.conv1.weight"
        }
        recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=32)
        fit(model, noise_images(64, 16), recipe, FitOptions("finetune", 0, CPU), masks=masks)
        return dict(model.state_dict())

    skipped = trained()
    monkeypatch.setattr(loop, "skip_dead", lambda *_: nullcontext())
    computed = trained()
    assert all(torch.equal(skipped[name], computed[name]) for name in computed)
