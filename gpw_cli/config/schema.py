"""The typed, frozen configuration, filled from ``conf/`` and passed to all stages.

    config = compose(["sparsity=0.7", "model=resnet56"])     # gpw_cli/config/compose.py
    config.pruning.sparsity                                  # 0.7

The key of a stage has only the stage's own part (gpw_cli/stages); ``runtime`` is in no key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from gpw_cli.config.quantizer import QuantizerConfig
from gpw_cli.config.recipe import Recipe
from gpw_cli.pruning.allocation import CountRounding, Scope
from gpw_cli.pruning.criteria import Criterion
from gpw_cli.pruning.groups import Scheme
from gpw_cli.targets.base import TargetConfig
from gpw_cli.tracking.registry import TrackerName


class Device(StrEnum):
    """The device of training and evaluation; ``auto`` prefers a GPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass(frozen=True)
class ModelConfig:
    """The network; ``gpw ls`` lists the names."""

    name: str = "resnet20"  # `gpw ls` lists the networks
    shortcut: str = "A"  # CIFAR ResNets: A (zero padding) or B (1x1 convolution)
    widths: list[int] = field(default_factory=list)  # CIFAR ResNets: of the 3 stages; []: published
    args: dict[str, Any] = field(default_factory=dict)  # of the user's own network (FILE.py:NAME)


@dataclass(frozen=True)
class DataConfig:
    """The data set. Keys have its identity (``data/identity.py``), not ``root``."""

    name: str = "cifar10"  # `gpw ls` lists the data sets
    root: str | None = None  # the folder of the images, outside runtime.root
    size: int = 0  # height and width in pixels; 0: those of the network
    channels: int = 0  # 1 or 3; 0: those of the network
    # training images held out to choose recipes and settings; they replace the test images, which
    # are then not used
    validation: int = 0


@dataclass(frozen=True)
class DistillConfig:
    """Knowledge distillation (Hinton et al. 2015).

    loss = (1 - weight) * cross entropy + weight * temperature^2 * KL(teacher || network), both
    softened by ``temperature``. ``teacher``: none; dense (finetune: the network before pruning);
    the name of a network with shipped weights; or a checkpoint file of the network ``model``.
    """

    teacher: str = "none"  # none, dense, a network with shipped weights, or a file
    model: str = ""  # network of a teacher file; empty: the network in training
    temperature: float = 4.0  # divides the logits of both networks
    weight: float = 0.9  # share of the teacher in the loss


@dataclass(frozen=True)
class PretrainConfig:
    """Where the dense weights come from.

    ``source``: auto (bundled if available, else scratch), bundled, scratch, the name of
    torchvision's weights (IMAGENET1K_V1), or a file.
    """

    # auto, bundled, scratch, a name of torchvision's weights such as IMAGENET1K_V1, or the path of
    # a checkpoint
    source: str = "auto"
    train: Recipe = field(default_factory=Recipe)
    distill: DistillConfig = field(default_factory=DistillConfig)


@dataclass(frozen=True)
class PruningConfig:
    """Which weights are removed. ``tile_out``, ``tile_in``: 0 means the GEMM tile of the target.

    ``budget`` (cycles of a run on the target) or ``budget_ms``: for scope ``cycles``, instead of
    ``sparsity``. ``branches``: modules that keep their residual branches, the others lose them;
    empty: the budget decides.
    """

    scheme: Scheme = Scheme.gpw  # the shape of a group
    sparsity: float = 0.5  # share of removed groups, 0 to below 1
    scope: Scope = Scope.layer  # the sets with the same sparsity, or a budget of cycles
    criterion: Criterion = Criterion.l1  # the score of a group
    rounding: CountRounding = CountRounding.nearest  # of sparsity times the number of groups
    include_first: bool = False  # also prune the first convolution
    include_last: bool = False  # also prune the classifier
    tile_out: int = 0  # output channels of a group; 0: those of the target's tile
    tile_in: int = 0  # input channels of a group; 0: those of the target's tile
    # an output channel without weights keeps the scale and shift of its batch norm, or its bias,
    # and so a constant output. Results from before this setting existed have true.
    keep_shift: bool = False
    permute: bool = False  # permute channels first, so that groups retain more
    budget: int = 0  # scope cycles: cycles of one run on the target
    budget_ms: float = 0.0  # in milliseconds at the clock of the target
    # modules that keep their residual branches; []: the budget decides
    branches: list[str] = field(default_factory=list)
    # share of the budget left free, because the passes of the fine-tuned network follow from its
    # own scales
    margin: float = 0.015
    # also stay within the budget if after fine-tuning every shortcut needs a left shift, a pass;
    # results from before this setting existed have false
    reserve: bool = True
    gradient_batches: int = 50  # taylor: batches of 128 training images

    @property
    def exact_sparsity(self) -> Decimal:
        """The decimal as written, since 0.7 as a float is slightly less."""
        return Decimal(repr(self.sparsity))


@dataclass(frozen=True)
class GradualConfig:
    """Pruning in ``steps`` over the first ``epochs`` of fine-tuning (Zhu and Gupta 2017).

    The sparsity follows the cubic schedule. Each step chooses new masks, and removed groups may
    return. 0 steps: all at once, before fine-tuning.
    """

    steps: int = 0  # 0: all at once, before fine-tuning
    epochs: int = 0  # of fine-tuning, in which the steps are taken


@dataclass(frozen=True)
class SharedConfig:
    """Weight sharing after fine-tuning (Han et al. 2016): each layer keeps 2^bits weight values.

    Which value a weight has is decided by k-means; the values and the biases are then trained for
    ``epochs`` more, with the other settings of ``finetune.train`` and no weight decay. A dense
    network is not fine-tuned before its weights are shared.
    """

    bits: int = 0  # 2^bits values a layer, zero among them, as target=eie has 4; 0: not shared
    epochs: int = 0  # of training the values; 0: they stay as k-means finds them
    lr: float = 0.001  # its peak; batch norms are folded, hence small steps


@dataclass(frozen=True)
class FinetuneConfig:
    """Training with the mask held.

    ``rewind`` N > 0: the last N epochs of ``pretrain.train`` again (learning-rate rewinding, Renda
    et al. 2020), in place of ``train``. ``quantized``: train as the integers that ``quantizer``
    makes (quantization/trained.py), the dense network too.
    """

    train: Recipe = field(default_factory=Recipe)
    distill: DistillConfig = field(default_factory=DistillConfig)
    gradual: GradualConfig = field(default_factory=GradualConfig)
    shared: SharedConfig = field(default_factory=SharedConfig)
    rewind: int = 0  # last epochs of pretrain.train to repeat, in place of train; 0: none
    quantized: bool = False  # train as the integers of quantizer (quantization-aware)


@dataclass(frozen=True)
class EvaluateConfig:
    """Test images for the accuracy of a network that is done with training.

    ``gpw simulate --images N`` sets this and ``simulate.images``. quantize, fuse and simulate
    evaluate this many images, and so does pretrain where it only reads the weights of a dense
    network. Stages that train, and the network before pruning, are always evaluated on all images:
    they are worth keeping. Where the number has an effect it is in the key, unless it is 0.
    """

    images: int = 0  # test images from the first on; 0: all


@dataclass(frozen=True)
class SimulateConfig:
    """The simulation. ``images``: number of test images; 0: those of ``evaluate.images``."""

    images: int = 0  # test images to run; 0: as evaluate.images says


@dataclass(frozen=True)
class SweepConfig:
    """The sweep of ``+experiment=NAME`` (``conf/experiment``); not in keys.

    ``grids``: override -> values, written as on the command line and quoted ("0.5:0.9", "0,1,2");
    the sweep has the runs of all grids, in order.
    """

    name: str = ""  # folder below results; empty: from a digest
    until: str = "simulate"  # the last stage of every run
    # override -> its values; the runs of a grid are all combinations
    grids: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class RuntimeConfig:
    """How and where to compute; not in keys."""

    device: Device = Device.auto  # auto prefers a GPU
    threads: int = 0  # CPU threads of a process; 0: cores divided by jobs, at most OMP_NUM_THREADS
    root: str = ".gpw"  # the artifact store and fetched data
    results: str = "results"  # the folders of sweeps
    # where to send epochs and results as well; each needs its extra (gpw[mlflow])
    trackers: list[TrackerName] = field(default_factory=list)
    tracking: str | None = None  # where trackers write: a folder, or an MLflow address; null: root


@dataclass(frozen=True)
class Config:
    """The whole configuration."""

    seed: int = 0  # of initialisation, order and augmentation
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    target: TargetConfig = field(default_factory=lambda: TargetConfig("???", "???"))  # its family's
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
