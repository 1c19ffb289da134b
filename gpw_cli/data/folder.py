"""List an image folder, root/train/CLASS/* and root/val/CLASS/*, without opening an image.

    splits, classes = listed(Path("flowers"))     # {"train": [(file, label)], "test": ...}

The folder ``val`` may be named ``test``. Cache keys use this, so it imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path

from gpw_cli.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"}
_LAYOUT = "expected FOLDER/train/CLASS/*.png (or jpg) and FOLDER/val/CLASS/*.png"

Listed = list[tuple[Path, int]]  # file, label


def listed(root: Path | None) -> tuple[dict[str, Listed], tuple[str, ...]]:
    """(files with their labels of ``train`` and ``test``, class names), sorted.

    Raises DataError for a missing folder, another layout, or different classes in the splits.
    """
    if root is None or not root.is_dir():
        raise DataError(
            f"data.root={root}: no such folder; data=imagefolder needs data.root=FOLDER, {_LAYOUT} "
            "(or try data=digits)"
        )
    try:
        train, classes = _split(root / "train")
        held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
        if held_out is None:
            raise DataError(f"data.root={root}: has neither val nor test; {_LAYOUT}")
        test, test_classes = _split(held_out)
    except OSError as error:
        raise DataError(f"data.root={root}: {error.filename}: {error.strerror}") from error
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise DataError(f"data.root={root}: class {odd} is not in both train and {held_out.name}")
    return {"train": train, "test": test}, classes


def _split(folder: Path) -> tuple[Listed, tuple[str, ...]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_LAYOUT}")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise DataError(f"{folder}: has no class folders; {_LAYOUT}")
    files: Listed = []
    for label, name in enumerate(classes):
        inside = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise DataError(f"{folder / name}: has no images ({', '.join(sorted(SUFFIXES))})")
        files += [(path, label) for path in inside]
    return files, tuple(classes)
