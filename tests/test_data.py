import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gpw_cli.data import registry
from gpw_cli.data.arrays import fingerprint, ignore, resized
from gpw_cli.data.digits import load_digits_images
from gpw_cli.data.identity import data_identity
from gpw_cli.data.imagefolder import load_imagefolder
from gpw_cli.errors import DataError, UsageError


def digits(size=16, channels=1):
    return load_digits_images(size, channels)


def test_digits_are_split_by_class():
    images = digits(8)
    assert (len(images.train), len(images.test)) == (1438, 359)
    assert torch.bincount(images.test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert images.train.images.max() == 255
    assert images.classes == tuple("0123456789")


def test_digits_fingerprint_is_the_same_everywhere():
    assert digits(16).fingerprint == (
        "435b7c2013f9248254a2d7fa3c78e60ea5d85bfef1f196403eac1e2b4da0e63b"
    )
    assert digits(32).fingerprint != digits(16).fingerprint


def test_digits_in_colour_are_grey():
    data = digits(32, 3)
    images = data.test.images
    assert images.shape == (359, 32, 32, 3)
    assert images.dtype == torch.uint8
    assert torch.equal(images[..., 0], images[..., 2])
    assert len(data.mean) == len(data.std) == 3


def test_digits_normalisation_is_measured():
    pixels = digits(16).train.images.float() / 255
    assert digits(16).mean == (pytest.approx(float(pixels.mean()), abs=5e-4),)
    assert digits(16).std == (pytest.approx(float(pixels.std()), abs=5e-4),)


@pytest.mark.parametrize(("size", "channels"), [(7, 1), (0, 1), (1000, 1), (16, 2)])
def test_digits_in_an_impossible_shape(size, channels):
    with pytest.raises(DataError, match=r"data\.size|data\.channels"):
        digits(size, channels)


def test_resizing_keeps_flat_images_and_native_sizes():
    flat = np.full((2, 8, 8, 3), 77, np.uint8)
    assert (resized(flat, 20) == 77).all()
    assert resized(flat, 8) is flat


def test_fingerprint_sees_pixels_labels_and_shapes():
    arrays = {"train/images": np.zeros((2, 2, 2, 1), np.uint8), "train/labels": np.array([0, 1])}
    first = fingerprint(arrays)
    assert first == fingerprint({**arrays, "train/labels": np.array([0, 1], np.uint8)})
    changed = [
        {**arrays, "train/labels": np.array([1, 0])},
        {**arrays, "train/images": np.zeros((2, 1, 4, 1), np.uint8)},
        {**arrays, "train/images": np.eye(4, 2, dtype=np.uint8).reshape(2, 2, 2, 1)},
    ]
    assert len({first, *map(fingerprint, changed)}) == 4


@pytest.fixture
def tree(tmp_path):
    """Two classes, three images a split, none square."""
    for split in ("train", "val"):
        for label, name in enumerate(("ant", "bee")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(1 + label):
                colour = (200 * label, 10 * number, 30)
                Image.new("RGB", (40, 30 + number), colour).save(folder / f"{number}.png")
    return tmp_path


def test_imagefolder(tree):
    reports = []
    images = load_imagefolder(tree, 16, 3, lambda *report: reports.append(report))
    assert images.classes == ("ant", "bee")
    assert images.train.images.shape == (3, 16, 16, 3)
    assert images.test.labels.tolist() == [0, 1, 1]
    assert images.test.images[2, 5, 5].tolist() == [200, 10, 30]
    assert reports[-1] == ("imagefolder: test images", 3, 3)
    assert images.fingerprint == load_imagefolder(tree, 16, 3, ignore).fingerprint


def test_imagefolder_crops_the_middle(tree):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    Image.fromarray(wide).save(tree / "val/ant/0.png")
    assert (load_imagefolder(tree, 20, 3, ignore).test.images[0] == 255).all()


def test_imagefolder_in_grey(tree):
    images = load_imagefolder(tree, 16, 1, ignore)
    assert images.train.images.shape == (3, 16, 16, 1)
    assert len(images.mean) == 1


def test_test_may_stand_for_val(tree):
    (tree / "val").rename(tree / "test")
    assert len(load_imagefolder(tree, 16, 3, ignore).test) == 3


def empty(path):
    for file in path.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: (t / "val").rename(t / "held"), "neither val nor test"),
        (lambda t: (t / "train").rename(t / "held"), "train: no such folder"),
        (lambda t: (t / "val/bee").rename(t / "val/cat"), "class bee is not in both"),
        (lambda t: empty(t / "val/bee"), "bee: has no images"),
        (lambda t: (t / "val/bee/0.png").write_bytes(b"text"), r"0\.png: not a readable image"),
        (
            lambda t: (t / "val/bee/0.png").write_bytes((t / "val/bee/1.png").read_bytes()[:60]),
            r"0\.png: not a readable image",
        ),
        (
            lambda t: Image.new("L", (9, 15)).save(t / "val/ant/0.png"),
            r"0\.png: 9x15 pixels, smaller than data\.size=16.*data\.size=9",
        ),
    ],
)
def test_damaged_trees(tree, damage, message):
    damage(tree)
    with pytest.raises(DataError, match=message) as caught:
        load_imagefolder(tree, 16, 3, ignore)
    assert "\n" not in str(caught.value)


def test_the_key_of_a_folder_follows_links(tree, tmp_path):
    def linked(name, to):
        root = tmp_path / name
        root.mkdir()
        for split in ("train", "val"):
            (root / split).symlink_to(to / split, target_is_directory=True)
        return data_identity("imagefolder", root, 16, 3)["files"]

    other = tmp_path / "other"
    shutil.copytree(tree, other, ignore=shutil.ignore_patterns("other"))
    (other / "val/bee/0.png").write_bytes((other / "train/ant/0.png").read_bytes())
    assert (
        linked("a", tree) == linked("b", tree) == data_identity("imagefolder", tree, 16, 3)["files"]
    )
    assert linked("c", other) != linked("d", tree)


def test_a_dangling_link_is_one_line(tree):
    (tree / "val/bee/9.png").symlink_to(tree / "absent.png")
    with pytest.raises(DataError, match=r"9\.png: not a readable image"):
        data_identity("imagefolder", tree, 16, 3)


def test_trees_that_are_absent_or_empty(tmp_path):
    with pytest.raises(DataError, match="data=digits"):
        load_imagefolder(None, 16, 3, ignore)
    with pytest.raises(DataError, match="no such folder"):
        load_imagefolder(tmp_path / "absent", 16, 3, ignore)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        load_imagefolder(tmp_path, 16, 3, ignore)
    with pytest.raises(DataError, match=r"data\.channels=4"):
        load_imagefolder(tmp_path, 16, 4, ignore)


def test_check_and_fetch_through_the_registry(tree, tmp_path):
    checked = registry.check("digits", None, tmp_path)
    assert (checked.train, checked.test, checked.classes) == (1438, 359, 10)
    assert registry.fetch("digits", tmp_path, ignore) == checked
    assert registry.check("imagefolder", tree, tmp_path, 16).train == 3
    with pytest.raises(UsageError, match="cannot be fetched"):
        registry.fetch("imagefolder", tmp_path, ignore)
    with pytest.raises(UsageError, match="did you mean digits"):
        registry.fetch("digit", tmp_path, ignore)
    assert [info.name for info in registry.describe()] == ["cifar10", "digits", "imagefolder"]


def test_load_images_by_name(tree, tmp_path):
    assert registry.load_images("digits", None, tmp_path, 16, 1, ignore).name == "digits"
    images = registry.load_images("imagefolder", tree, tmp_path, 16, 3, ignore)
    assert images.name == "imagefolder"
