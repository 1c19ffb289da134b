"""The training loop: uint8 images on the device, a checkpoint after each epoch, bit-exact resume.

    history = fit(model, images, recipe, FitOptions(stage="pretrain", seed=0, device=device),
                  checkpoint=work / "last.safetensors", on_epoch=print)

If the process is killed, the same call continues from the last finished epoch. On the same device
and with the same thread count the result is bit-identical to that of an uninterrupted run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gpw_cli.config.recipe import Padding, Precision, Recipe
from gpw_cli.data.images import Augment, Images, Split, batch
from gpw_cli.errors import DivergedError
from gpw_cli.training import resume
from gpw_cli.training.dead import skip_dead
from gpw_cli.training.distill import Teacher
from gpw_cli.training.evaluate import accuracy
from gpw_cli.training.masking import Gradual, Masking
from gpw_cli.training.optimizer import learning_rate, sgd
from gpw_cli.training.randomness import generator


@dataclass(frozen=True)
class EpochRecord:
    """One row of ``metrics.jsonl``. ``test_accuracy`` is None for epochs without an evaluation."""

    epoch: int  # from 1
    loss: float  # mean training loss of the epoch
    train_accuracy: float  # percent, on the augmented images
    test_accuracy: float | None
    lr: float  # of the last step
    seconds: float


TELL_SECONDS = 10.0


@dataclass(frozen=True)
class FitOptions:
    """The random stream of a run, its device, and options beyond the recipe.

    teacher: see distill.py. All runs with a teacher and the same seed share one random stream, so
    the teacher's logits can be cached. schedule: a recipe whose learning rates replace the run's
    own, starting at its epoch ``offset`` (counted from 0); used for learning-rate rewinding.
    on_step: called as ``on_step(epoch, done, total)`` every ``TELL_SECONDS`` within an epoch, and
    at the end of an epoch in which it was called; ``epoch`` counts from 1, ``done`` and ``total``
    are images.
    """

    stage: str
    seed: int
    device: torch.device
    teacher: Teacher | None = None
    schedule: Recipe | None = None
    offset: int = 0
    on_step: Callable[[int, int, int], None] | None = None

    @property
    def stream(self) -> str:
        """The name of the random stream."""
        return self.stage if self.teacher is None else "distill"


def bf16_is_faster(device: torch.device) -> bool:
    """Whether the device computes bf16 convolutions in hardware (CPU: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def resolved_precision(recipe: Recipe, device: torch.device) -> Precision:
    """The precision of ``recipe``, with ``auto`` resolved for ``device``."""
    if recipe.precision is not Precision.auto:
        return recipe.precision
    return Precision.bf16 if bf16_is_faster(device) else Precision.fp32


def fit(
    model: nn.Module,
    images: Images,
    recipe: Recipe,
    options: FitOptions,
    *,
    masks: Mapping[str, Tensor] | None = None,
    gradual: Gradual | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_resumed: Callable[[EpochRecord], None] | None = None,
) -> list[EpochRecord]:
    """Train ``model`` in place; returns one record per epoch, epochs before a resume included.

    masks: parameter name -> bool tensor of the parameter's shape. Entries that are False are set to
    zero at the start and stay exactly zero, as do their gradients and momenta.
    gradual: chooses new masks before some epochs (masking.py); ``masks`` hold until the first of
    them.
    on_epoch: called after each epoch. on_resumed: called before training starts, once for each
    epoch in the checkpoint.

    Raises DivergedError when the loss is not finite.
    """
    run = TrainingRun(model, images, recipe, options, masks or {})
    history: list[EpochRecord] = []
    if checkpoint:
        history, state = resume.load(checkpoint, model, run.optimizer, EpochRecord)
        run.masking.restore(state)
    if on_resumed is not None:
        for record in history:
            on_resumed(record)
    with ExitStack() as skipping:
        held: Mapping[str, Tensor] | None = None
        for epoch in range(len(history), recipe.epochs):
            if gradual is not None and epoch in gradual.shares:
                skipping.close()
                run.renew_masks(gradual, epoch)
            if held is not run.masking.masks:
                held = run.masking.masks
                skipping.enter_context(skip_dead(model, held, images.shape))
            record = run.epoch(epoch)
            history.append(record)
            if checkpoint is not None:
                rows = [asdict(row) for row in history]
                resume.save(checkpoint, model, run.optimizer, rows, run.saved(gradual))
            if on_epoch is not None:
                on_epoch(record)
    return history


class TrainingRun:
    """The state of one call of ``fit``; ``epoch(n)`` trains epoch n, counted from 0."""

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        recipe: Recipe,
        options: FitOptions,
        masks: Mapping[str, Tensor],
    ) -> None:
        self.model = model.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images, self.recipe, self.options = images, recipe, options
        self.train: Split = images.train.to(options.device)
        self.autocast = resolved_precision(recipe, options.device) is Precision.bf16
        self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self.augment = Augment(recipe.crop, recipe.padding is Padding.reflect, recipe.flip)
        self.optimizer = sgd(model, recipe)
        self.masking = Masking(model, masks)
        self._told = False  # whether on_step was called in this epoch

    def renew_masks(self, gradual: Gradual, epoch: int) -> None:
        """Choose new masks before ``epoch``."""
        self.masking.change(
            gradual.new_masks(self.model, self.masking.full(), gradual.shares[epoch])
        )
        self.masking.clear(self.optimizer)

    def saved(self, gradual: Gradual | None) -> Mapping[str, Tensor]:
        """Further tensors for the checkpoint: the masks, if they change during training."""
        return self.masking.state() if gradual is not None else {}

    def epoch(self, epoch: int) -> EpochRecord:
        """Train for one epoch; evaluate if the recipe asks for it."""
        start = time.perf_counter()
        loss, train_accuracy, lr = self.train_epoch(epoch)
        test = None
        if epoch + 1 == self.recipe.epochs or (epoch + 1) % self.recipe.eval_every == 0:
            test = accuracy(self.model, self.images.test, self.images)
        seconds = time.perf_counter() - start
        return EpochRecord(epoch + 1, loss, train_accuracy, test, lr, seconds)

    def train_epoch(self, epoch: int) -> tuple[float, float, float]:
        """Train for one epoch; returns its mean loss, training accuracy in percent and last lr."""
        stream = generator(self.options.seed, self.options.stream, epoch)
        order = torch.randperm(len(self.train), generator=stream).to(self.options.device)
        size = min(self.recipe.batch_size, len(order))
        steps = len(order) // size  # an incomplete last batch is dropped
        self.model.train()
        totals = torch.zeros(2, dtype=torch.float64, device=self.options.device)
        teacher, lr, said = self.options.teacher, 0.0, time.monotonic()
        if teacher is not None:
            teacher.begin(epoch, steps)
        for step in range(steps):
            lr = self._rate(epoch * steps + step, steps)
            rows = order[step * size : (step + 1) * size]
            totals += self._step(rows, lr, stream, step)
            said = self._tell(said, epoch + 1, (step + 1) * size, steps * size)
        if teacher is not None:
            teacher.end()
        loss, correct = (totals / steps).tolist()
        if not torch.isfinite(totals).all():
            raise DivergedError(self.options.stage, epoch + 1, lr)
        return loss, 100.0 * correct / size, lr

    def _tell(self, said: float, epoch: int, done: int, total: int) -> float:
        """Call ``on_step`` if it is due; returns the time of the last call."""
        now, tell = time.monotonic(), self.options.on_step
        due = now - said >= TELL_SECONDS
        if tell is None or not (due or (done == total and self._told)):
            return said
        self._told = done < total
        tell(epoch, done, total)
        return now

    def _rate(self, step: int, steps: int) -> float:
        recipe = self.options.schedule or self.recipe
        return learning_rate(recipe, self.options.offset * steps + step, steps)

    def _step(self, rows: Tensor, lr: float, stream: torch.Generator, step: int) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        x, y = batch(self.train, rows, self.images, self.augment, stream)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            out = self.model(x)
        loss = self.loss(out.float(), y)
        if self.options.teacher is not None:
            loss = self.options.teacher.loss(out.float(), loss, step, x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.masking.hold()
        self.optimizer.step()
        correct = (out.argmax(1) == y).sum()
        return torch.stack([loss.detach().double(), correct.double()])
