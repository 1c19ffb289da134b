"""The user's own networks: a class or function in a Python file, a module or a plug-in
(docs/plugins.md).

    own_identity("./mynet.py:MyNet")                   # for keys: name and hash of the file
    net = build_own("./mynet.py:MyNet", {"width": 16}, classes=10, channels=3)

The code runs only if the user names it, as with ``import``; a checkpoint cannot name code. The key
has the hash of the file, but not of the modules it imports. Imports no torch.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gpw_cli.errors import UsageError
from gpw_cli.models.inputs import is_built_in
from gpw_cli.plugins import Plugin, find, remember

if TYPE_CHECKING:
    from torch import nn

CLASSES, CHANNELS = ("num_classes", "classes"), ("in_channels", "channels")
HOW = "write model=FILE.py:NAME or model=PACKAGE.MODULE:NAME"


def is_own(name: str) -> bool:
    """Whether ``model.name`` names code, not a built-in network."""
    return ":" in name or _plugin(name) is not None


def check_args(name: str, args: Mapping[str, Any]) -> None:
    """Raise UsageError for ``model.args`` of a network that takes none."""
    if args and not is_own(name):
        raise UsageError(
            f"model.args={dict(args)}: only your own network and plug-ins take any, not {name}; "
            f"{HOW}"
        )


def _plugin(name: str) -> Plugin | None:
    return None if not name or ":" in name or is_built_in(name) else find("network", name)


def absolute(name: str) -> str:
    """``name`` with an absolute path, for another working directory."""
    place, _, attribute = name.rpartition(":")
    return f"{Path(place).resolve()}:{attribute}" if place.endswith(".py") else name


def own_identity(name: str) -> dict[str, str]:
    """Name and content hash of the code, without its folder; UsageError if it does not exist.

    For a plug-in: its name, and its package with the version.
    """
    if (plugin := _plugin(name)) is not None:
        return {"plugin": name, "package": plugin.origin}
    place, _, attribute = name.rpartition(":")
    file = _file(name)
    shown = file.name if place.endswith(".py") else place
    return {
        "code": f"{shown}:{attribute}",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def _file(name: str) -> Path:
    place, _, attribute = name.rpartition(":")
    if not attribute.isidentifier():
        raise UsageError(f"model={name}: {attribute!r} is no name of a class or function; {HOW}")
    if place.endswith(".py"):
        file = Path(place).expanduser()
        if not file.is_file():
            raise UsageError(f"model={name}: no file {place}; {HOW}")
        return file
    found = _module_file(place)
    if found is None:
        raise UsageError(f"model={name}: no importable module {place}; {HOW}")
    return found


def _module_file(module: str) -> Path | None:
    """The file of ``module``, found without importing its packages."""
    path: list[str] | None = [str(Path.cwd()), *sys.path]
    origin = None
    for depth in range(module.count(".") + 1):
        spec = PathFinder.find_spec(".".join(module.split(".")[: depth + 1]), path)
        if spec is None:
            return None
        origin, path = spec.origin, list(spec.submodule_search_locations or [])
    return Path(origin) if origin else None


def build_own(name: str, args: Mapping[str, Any], classes: int, channels: int) -> nn.Module:
    """The network that the class or function returns for ``args``.

    If they are parameters and not in ``args``, ``num_classes`` or ``classes`` gets the number of
    classes, and ``in_channels`` or ``channels`` the number of image channels. Its parameters become
    float32. Raises UsageError if the code does not exist, takes other arguments, raises an
    exception, or returns no ``torch.nn.Module``.
    """
    from torch import nn

    plugin = _plugin(name)
    with blamed_on(name):
        made = plugin.load() if plugin is not None else _named(name)
        if not isinstance(made, nn.Module):
            made = made(**_arguments(name, made, args, classes, channels))
    if not isinstance(made, nn.Module):
        raise UsageError(f"model={name}: makes a {type(made).__name__}, not a torch.nn.Module")
    return made.float()


def _named(name: str) -> Any:
    """The class, function or module of ``name``."""
    place, _, attribute = name.rpartition(":")
    module = _module(name)
    if not hasattr(module, attribute):
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        close = get_close_matches(attribute, own, 1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(own) or 'none'}"
        raise UsageError(f"model={name}: {place} has no {attribute}; {hint}")
    return getattr(module, attribute)


def _module(name: str) -> ModuleType:
    place = name.rpartition(":")[0]
    if place.partition(".")[0] == "torchvision":
        from gpw_cli.models.vision import import_torchvision

        import_torchvision()
    file = _file(name).resolve()
    if not place.endswith(".py"):
        if (package := place.partition(".")[0]) not in ("torch", "torchvision"):
            remember(package, f"model={name}")
        with _in_path(Path.cwd()):
            return importlib.import_module(place)
    # A unique name, so that the file cannot hide an installed package of its name.
    own = f"gpw_own_{hashlib.sha256(str(file).encode() + file.read_bytes()).hexdigest()[:16]}"
    remember(own, f"model={name}")
    if own not in sys.modules:
        spec = importlib.util.spec_from_file_location(own, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[own] = module
        try:
            with _in_path(file.parent):
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[own]
            raise
    return sys.modules[own]


@contextmanager
def _in_path(folder: Path) -> Iterator[None]:
    """Allow imports from ``folder``, as for a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def blamed_on(name: str) -> Iterator[None]:
    """Turn exceptions of the user's code into a UsageError with their position.

    What the code prints goes to stderr: stdout is for results.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = (str(error).strip() or "no message").splitlines()[0]
        where = f"{Path(frame.filename).name}, line {frame.lineno}"
        raise UsageError(f"model={name}: {type(error).__name__}: {reason} ({where})") from error


def _arguments(
    whole: str, made: Any, args: Mapping[str, Any], classes: int, channels: int
) -> dict[str, Any]:
    if not callable(made):
        raise UsageError(
            f"model={whole}: is of type {type(made).__name__}, no class or function; {HOW}"
        )
    signature = inspect.signature(made)
    taken = signature.parameters
    found = dict(args)
    for names, value in ((CLASSES, classes), (CHANNELS, channels)):
        name = next((name for name in names if name in taken), None)
        if name is not None and not found.keys() & set(names):
            found[name] = value
    try:
        signature.bind(**found)
    except TypeError as error:
        raise UsageError(
            f"model={whole}: {error}: it takes {signature}; give the others as "
            "model.args={NAME:VALUE}"
        ) from None
    return found
