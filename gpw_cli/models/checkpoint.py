"""Read weights: our own files, or state dicts of common public implementations.

    import_checkpoint(Path("resnet20-12fca82f.th"), model)
    name, shortcut = detect_model(load_state(path))          # ("resnet20", "A")

Files are safetensors, or PyTorch files read with ``weights_only=True``, so pickled code never runs.
Every failure is a CheckpointError with one line.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gpw_cli.errors import CheckpointError, UsageError
from gpw_cli.models.catalog import declared
from gpw_cli.models.onnx_file import is_onnx
from gpw_cli.models.registry import build_model
from gpw_cli.models.weight_files import MAX_BYTES, require_regular

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_DEEPEST = 8  # most nested wrappers
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# Other names for the same network, tried on keys that the model does not have. The stage_1.0.conv_a
# family is missing because its parameter-free shortcut pads on one side only.
_RENAMES = (
    (re.compile(r"^(?:features|backbone)\."), ""),
    (re.compile(r"^stage(?=[123]\.)"), "layer"),
    (re.compile(r"\.downsample\.(?=[01]\.)"), ".shortcut."),
    (re.compile(r"(?<=\.)(norm|conv)\.(?=[12]\.)"), r"\1"),  # DenseNet's older files
    (re.compile(r"^(?:fc|classifier|head)\.(?=weight$|bias$)"), "linear."),
)
# Auxiliary classifiers of GoogLeNet and Inception, used in their training only.
_LEFT_OUT = re.compile(r"^(?:aux[12]|AuxLogits)\.")


def import_checkpoint(path: Path, model: nn.Module) -> None:
    """Load the weights in ``path`` into ``model``.

    Raises:
        CheckpointError: see ``load_state`` and ``adapt_state``.
    """
    if is_onnx(path.name):  # the network came with its weights
        return
    model.load_state_dict(adapt_state(load_state(path), model, str(path)))


def load_state(path: Path) -> dict[str, Tensor]:
    """The state dict in ``path``, on the CPU, without wrappers and common key prefixes.

    Raises:
        CheckpointError: the file is not regular, unreadable, truncated, holds pickled code or no
            state dict, or has tensors that are quantized, sparse, complex, too large or not
            finite in fp32.
    """
    require_regular(path)
    content = _read(path)
    state = _unwrapped(content, path)
    for prefix in _PREFIXES * 2:  # twice, because they nest in any order
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    _check_size(state, path)
    for key, tensor in state.items():
        if (wrong := _unusable(tensor)) is not None:
            raise CheckpointError(f"{path}: {key} {wrong}")
    return state


def _check_size(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for tensors too large for any network: a view may claim any size."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > MAX_BYTES:
        raise CheckpointError(f"{path}: its tensors take {claimed:,} bytes; no network here does")


def _unusable(tensor: Tensor) -> str | None:
    """Why ``tensor`` cannot be a weight, found without copying a refused tensor; else None."""
    if tensor.is_quantized or tensor.layout != torch.strided:
        return "is quantized or sparse; save it as plain floats"
    if tensor.is_meta or tensor.is_complex():
        return f"holds no real numbers ({_kind(tensor)}); save it as plain floats"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "repeats its numbers in memory (an expanded view); save it with .contiguous()"
    try:
        finite = bool(torch.isfinite(tensor.float()).all())
    except (RuntimeError, NotImplementedError):
        return f"is of a type that cannot be converted ({_kind(tensor)}); save it as plain floats"
    return None if finite else "holds values that are not finite (NaN or infinite) in fp32"


def _kind(tensor: Tensor) -> str:
    return "meta" if tensor.is_meta else str(tensor.dtype).removeprefix("torch.")


def _read(path: Path) -> object:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    if path.suffix == ".safetensors" or start[8:] == b"{":
        try:
            return load_file(path)
        except Exception as error:  # a header may hold anything
            raise CheckpointError(f"{path}: damaged or not safetensors ({error})") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of foreign files
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises nearly any exception for a broken file
        raise _refused(path, str(error)) from None


def _refused(path: Path, message: str) -> CheckpointError:
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named is None:
        return CheckpointError(
            f"{path}: truncated, damaged, or neither a safetensors nor a PyTorch file"
        )
    return CheckpointError(
        f"{path}: holds pickled code ({named[1]}), which gpw never runs; "
        "save the weights alone: torch.save(model.state_dict(), FILE)"
    )


def _unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    for _ in range(_DEEPEST):  # it may contain itself
        if not isinstance(content, Mapping):
            break
        tensors = {k: v for k, v in content.items() if isinstance(k, str) and torch.is_tensor(v)}
        if tensors and len(tensors) == len(content):
            return tensors
        inner = next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    held = type(content).__name__
    if isinstance(content, Mapping):
        held = ", ".join(str(key)[:80] for key in list(content)[:5]) or "nothing"
    raise CheckpointError(f"{path}: no state dict (a mapping of names to tensors); it holds {held}")


def adapt_state(
    state: Mapping[str, Tensor], model: nn.Module, origin: str = "checkpoint"
) -> dict[str, Tensor]:
    """``state`` with the key names and tensor shapes of ``model``.

    Batch-norm counters that old files lack become 0.

    Raises:
        CheckpointError: the weights are of another network or have invalid values. It names
            ``origin``, the first wrong key and, if known, the network in the file.
    """
    wanted = model.state_dict()
    adapted = _renamed(state, wanted)
    fault = _first_fault(adapted, wanted)
    if fault is None:
        for key, tensor in adapted.items():
            if (wrong := _meaningless(key, tensor, wanted[key])) is not None:
                raise CheckpointError(f"{origin}: {key} {wrong}")
        return adapted
    try:
        name, shortcut = detect_model(state)
        classes = [tensor for tensor in state.values() if tensor.ndim == 2][-1].shape[0]
        hint = f"the file fits model={name} model.shortcut={shortcut} and {classes} classes"
    except CheckpointError:
        hint = "choose its network with model=NAME (`gpw ls` lists them)"
    raise CheckpointError(f"{origin}: weights of another network: {fault}; {hint}")


def detect_model(state: Mapping[str, Tensor]) -> tuple[str, str]:
    """(name, shortcut option) of the network of gpw that ``state`` fits exactly.

    Raises:
        CheckpointError: it fits none of them.
    """
    kernels = [tensor for tensor in state.values() if tensor.ndim == 4]
    matrices = [tensor for tensor in state.values() if tensor.ndim == 2]
    for name, own in declared().items() if matrices else ():
        pixels = own.size**2
        in_channels = kernels[0].shape[1] if kernels else max(1, matrices[0].shape[1] // pixels)
        for shortcut in "AB":
            with suppress(UsageError), torch.device("meta"):  # shapes only
                model = build_model(name, matrices[-1].shape[0], in_channels, shortcut)
                wanted = model.state_dict()
                if _first_fault(_renamed(state, wanted), wanted) is None:
                    return name, shortcut
    raise CheckpointError(
        f"the checkpoint fits none of {', '.join(declared())}; say what it is with model.name=NAME"
    )


def _renamed(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    adapted = {}
    for key, tensor in state.items():
        if key not in wanted and _LEFT_OUT.match(key):
            continue
        adapted[next((name for name in _spellings(key) if name in wanted), key)] = tensor
    for key, tensor in wanted.items():
        if key.endswith("num_batches_tracked"):
            adapted.setdefault(key, torch.zeros((), dtype=tensor.dtype))
    return adapted


def _spellings(key: str) -> list[str]:
    """``key`` itself, then with each of ``_RENAMES``, in order."""
    names = [key]
    for pattern, replacement in _RENAMES:
        names += [pattern.sub(replacement, name) for name in names]
    return names


def _meaningless(key: str, tensor: Tensor, wanted: Tensor) -> str | None:
    """Why ``tensor`` cannot replace the model's ``wanted``; None if it can."""
    if wanted.is_floating_point() and not tensor.is_floating_point():
        return f"is {_kind(tensor)} instead of {_kind(wanted)}"
    if not wanted.is_floating_point() and tensor.dtype is torch.bool:
        return f"is bool instead of {_kind(wanted)}"
    if key.endswith("running_var") and bool((tensor < 0).any()):
        return "is a variance and holds negative values"
    return None


def _first_fault(adapted: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    for key, tensor in wanted.items():
        if key not in adapted:
            return f"{key} is missing"
        if adapted[key].shape != tensor.shape:
            return f"{key} is {list(adapted[key].shape)} instead of {list(tensor.shape)}"
    odd = next((key for key in adapted if key not in wanted), None)
    return None if odd is None else f"{odd} is unexpected"
