"""The commands of the two reviews once more, in a shell, with what they answer now.

    python scripts/reviews.py [--only reliability-4] > results/trust/reviews.txt

Each finding is a few lines of bash in a folder of its own; ``gpw`` there is this checkout's, and
findings that need trained networks start from a copy of one small store (digits, an epoch each of
training and fine-tuning; the reviews had 3 and 2). What takes hours (kills by the hundred, fuzzing,
mutants, the RTL) has a script of its own, named in SLOW.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 600  # seconds of one finding
PREPARE = "gpw sweep $A --name a sparsity=0.7"
SLOW = """\
reliability 1b, 9: python tests/crash_points.py gc|make|export|... FOLDER (208 crash points)
reliability 2: scripts/fuzz.py flips (2,000 of any file of an artifact); every bit of a manifest:
  tests/test_store_damage.py
reliability 4-6, 10-12 at random: scripts/fuzz.py; 13, Ctrl-C at 50 moments: scripts/interrupts.py
truth 7: scripts/mutate.py; soak: scripts/soak.py; cycles of the RTL: tests/test_vta_rtl.py"""

# Python that makes a checkpoint of digits' network from the trained one.
CHANGED = """python - <<'END'
import torch
from safetensors.torch import load_file
import glob
good = load_file(glob.glob(".gpw/store/pretrain/*/model.safetensors")[0])
first, var = "features.0.weight", "features.1.running_var"
looped = {"epoch": 3}; looped["model"] = looped; torch.save(looped, "self.pth")
torch.save(good | {first: good[first].to(torch.complex64)}, "complex.pth")
torch.save({k: v.bool() for k, v in good.items()}, "bool.pth")
torch.save({k: v.to(torch.int8) for k, v in good.items()}, "int8.pth")
torch.save(good | {first: good[first].double() * 1e300}, "big.pth")
torch.save(good | {var: -good[var]}, "var.pth")
END"""
PERMUTE = """python - <<'END'
import glob
from safetensors.torch import load_file, save_file
(file,) = glob.glob(".gpw/store/finetune/*/model.safetensors")
found = load_file(file)
name = next(k for k, v in found.items() if v.ndim == 2)
found[name] = found[name].flip(0).contiguous(); save_file(found, file)
END"""
ACCURACY = "grep test_accuracy .gpw/store/simulate/*/manifest.json"

# finding -> lines of bash; a finding whose name ends in * starts from the trained store.
RELIABILITY = {
    "1a *": [
        ACCURACY,
        "rm .gpw/store/finetune/*/manifest.json",
        PERMUTE,
        "rm -r .gpw/store/quantize .gpw/store/fuse .gpw/store/simulate",
        "gpw sweep $A --name a sparsity=0.7 2>&1 | grep -v epoch",
        ACCURACY,
        "ls .gpw/store/finetune",
    ],
    "1b *": [
        f"python {ROOT}/tests/crash_points.py gc kills",
        "gpw cache gc --all --min-age 0 | tail -1",
        "ls .gpw/store",
    ],
    "2 *": [
        'sed -i \'s/"test_accuracy": [0-9.]*/"test_accuracy": 99.0501/\' '
        ".gpw/store/simulate/*/manifest.json",
        "gpw sweep $A --name a sparsity=0.7 2>&1 | grep -v epoch",
        ACCURACY,
    ],
    "3 *": [
        "gpw fuse $A sparsity=0.7 quantizer=profile >out 2>err & "
        "until ls .gpw/store/.uses/*.keys >/dev/null 2>&1; do sleep 0.1; done; "
        "gpw cache gc --all --min-age 0 | tail -4; wait %1; echo fuse: exit $?; "
        "grep -c Traceback err; tail -2 out",
    ],
    "4 *": [
        CHANGED,
        "mkfifo fifo",
        *(f"gpw pretrain data=digits pretrain.source={f}" for f in ("self.pth", "fifo")),
        "gpw pretrain data=digits pretrain.source=/dev/zero",
    ],
    "5 *": [
        CHANGED,
        *(
            f"gpw pretrain data=digits pretrain.source={kind}.pth"
            for kind in ("complex", "bool", "int8", "big", "var")
        ),
    ],
    "6": [
        *(
            f"gpw run data=digits {override}"
            for override in (
                "pretrain.train.lr=inf",
                "pretrain.train.weight_decay=inf",
                "target.timing.clock_mhz=nan",
                "target.timing.clock_mhz=inf",
                "pretrain.train.crop=1000",
                "target.timing.read_latency=99999999999999999999",
                "+foo.bar=1",
                "+pruning._target_=os.system",
            )
        ),
        "gpw sweep data=digits sparsity=0:1e999999999",
        "gpw sweep data=digits sparsity=1e-999999999:1",
        "gpw simulate data=digits --checkpoint '**'",
        "mkdir -p own/train; echo 'lr: !!python/object/apply:os.getcwd []' > own/train/evil.yaml",
        "gpw config --config-dir own train=evil",
        "gpw pretrain data=digits runtime.root=/proc/nothing",
        "gpw ls --json >/dev/full",
    ],
    "7 *": [
        "echo x >> $(ls .gpw/store/prune/*/masks.safetensors)",
        "for i in 1 2 3 4; do (gpw prune $A sparsity=0.7 >out$i 2>&1; echo exit $?) & done; wait",
        "ls .gpw/store/prune; cat out? | grep -c 'set aside'",
    ],
    "8 *": [
        "for t in .gpw/store/simulate/*/timing.json; do echo x >> $t; done",
        "find .gpw -printf '%p %T@\\n' | sort > before",
        "gpw sweep $A --name a sparsity=0.7 --dry-run",
        "find .gpw -printf '%p %T@\\n' | sort | diff before - && echo nothing changed",
    ],
    "9 *": [
        "mkdir small; mount -t tmpfs -o size=64k none small || exit 0",
        "gpw simulate $A sparsity=0.7 --export small/x; ls -a small/x",
        "mount -o remount,size=8m small; gpw simulate $A sparsity=0.7 --export small/x | tail -1; "
        "ls small/x; umount small",
    ],
    "10 *": [
        "for s in .gpw/store/simulate/*/; do rm $s/manifest.json; mkdir $s/manifest.json; done",
        "gpw sweep $A --name a sparsity=0.7 2>&1 | grep -v epoch; ls .gpw/store/simulate",
        'cp -r results/a results/b; sed -i \'s/"cycles": [0-9]*/"cycles": "x"/\' '
        "results/b/points/*.json; gpw report b 2>&1 | head -3",
        'rm -r results/b; cp -r results/a results/b; sed -i \'s/"cycles": [0-9]*/"cycles": 7/\' '
        "results/b/points/*.json; gpw report b 2>&1 | head -3",
        'sed -i \'s/"name": "a"/"name": "c"/\' results/b/sweep.json; gpw report b',
        'for t in \'[]\' \'{}\' \'{"points": [{"id": "p", "keys": 5}]}\'; do '
        "echo $t >results/b/sweep.json; gpw cache gc; gpw report b; done",
    ],
    "10, permissions *": [
        "mount --bind .gpw .gpw && mount -o remount,bind,ro .gpw || exit 0",
        "gpw cache gc --all --min-age 0; gpw run $A sparsity=0.5 2>&1 | tail -1; umount .gpw",
        "chmod 000 .gpw/store/simulate/*/manifest.json .gpw/store/fuse",
        *(
            f"setpriv --bounding-set=-dac_override,-dac_read_search "
            f"--inh-caps=-dac_override,-dac_read_search {command}"
            for command in (
                "gpw cache ls 2>&1 | cut -c1-90",
                "gpw run $A sparsity=0.7 2>&1 | tail -1",
                "gpw cache gc --all --min-age 0 2>&1 | tail -2",
            )
        ),
        "chmod 755 .gpw/store/fuse",
        """python - <<'END'
import json
from pathlib import Path
from gpw_cli.store.seal import opened
file = Path("results/a/points/run.json")
record = opened(file.read_bytes()).content
record["stages"]["simulate"] = 5
file.write_text(json.dumps(record))
END""",
        "gpw report a 2>&1 | head -1",
    ],
    "11": [
        "gpw config --config-dir /nonexistent",
        "mkdir -p own/train; echo 'epoch: 3' > own/train/odd.yaml; "
        "gpw config --config-dir own train=odd",
    ],
    "12": [
        *(
            f"gpw run data=digits {override}"
            for override in (
                "~pruning",
                "pretrain.train.milestones=[-3]",
                "target.timing.burst_beats=3",
                "target.timing.burst_beats=1000000000",
                "target.timing.gemm_cycles=0",
                "pruning.tile_out=99999",
                "data.root=/nonexistent",
                "runtime.root=",
            )
        ),
        "gpw sweep data=digits --jobs ''",
        "gpw sweep data=digits --name ''",
        "touch file; gpw cache gc --all --store file",
    ],
    "13 *": [
        "gpw ls | head -1 | cut -c1-80; echo exit ${PIPESTATUS[0]}",
        *(
            f"timeout --preserve-status -s {number} {seconds} gpw run $A sparsity={sparsity} >out "
            "2>&1; echo exit $?; grep -c Traceback out; tail -1 out"
            for number, seconds, sparsity in (
                ("INT", 0.7, 0.5),
                ("INT", 4, 0.5),
                ("INT", 12, 0.5),
                ("TERM", 8, 0.6),
            )
        ),
        "timeout --preserve-status -s INT 60 gpw sweep data=digits seed=1:10000 "
        "scheme=block,channel,fine,gpw,vector sparsity=0.5 --dry-run 2>&1 "
        ">/dev/null | sed -n '1,3p;$p'",
        "gpw run data=digits target.timing.clock_mhz=0",
        "gpw run --nope",
        "gpw nope",
        "stat -c %a .gpw/store/pretrain/*/*",
        "gpw cache gc --all --min-age 0 | tail -1; find .gpw/store -name '*.lock'",
    ],
}
POINTS = f"{ROOT}/results/paper_gpw/points"
TRUTH = {
    "1": [
        f"for s in {ROOT}/results/*; do echo $(basename $s): $(grep -ls '[0-9a-f]-dirty' "
        "$s/points/* | wc -l) points from a dirty tree; done",
        f"""python - <<'END'
import glob, json
for sweep in sorted(glob.glob("{ROOT}/results/*/points")):
    page = open(sweep.replace("points", "report.html")).read()
    keys = {{s["key"] for f in glob.glob(sweep + "/*.json")
            for s in json.load(open(f)).get("stages", {{}}).values()}}
    shown = sum(key[:12] in page for key in keys)
    print(sweep.split("/")[-2], len(keys), "stage keys,", shown, "shown")
END""",
    ],
    "2": [
        "for q in paper001 profile; do gpw config quantizer=$q | sed -n '/^quantizer/,/^[a-p]/p' | "
        "grep -E ' (name|rounding|step_margin|scale_floor)'; done"
    ],
    "3, 9": [
        f"""python - <<'END'
import json
for scheme in ("gpw", "block"):
    for scope in ("layer", "global"):
        name = f"{POINTS}/scheme={{scheme}},sparsity=0.9,scope={{scope}},seed=0.json"
        prune = json.load(open(name))["stages"]["prune"]
        empty = sum(row["removed"] == row["groups"] for row in prune["layers"])
        print(scheme, scope, "90 %:", empty, "layers empty, reached",
              round(100 * prune["metrics"]["sparsity_prunable"], 1), "%")
END""",
    ],
    "4": [f"grep -n 'three ways' {ROOT}/docs/paper_gpw.md"],
    "5, 6, 12": [
        f"cd {ROOT}; python -m pytest -q -p no:cacheprovider tests/test_vta_functional.py "
        "tests/test_vta_lowering_parts.py -k 'low_five_bits or wraps_around or hls_design or "
        "by_an_immediate' 2>&1 | tail -1"
    ],
    "8 *": ["gpw simulate data=digits --checkpoint $(basename .gpw/store/pretrain/*/) --images 64"],
    "10 *": ["gpw simulate $A sparsity=0.7 2>/dev/null | grep -o 'GEMM.*busy [0-9.]* %'"],
    "11": ["gpw config | grep -n validation"],
    "13": [f"grep -n '69.29' {ROOT}/docs/quantizers.md | cut -c1-200"],
}


def environment(folder: Path) -> dict[str, str]:
    """``gpw`` on the path, and the reviews' variable A."""
    shim = folder / "bin" / "gpw"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m gpw_cli "$@"\n')
    shim.chmod(0o755)
    path = f"{shim.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    tiny = "data=digits scheme=gpw pretrain.train.epochs=1 finetune.train.epochs=1"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "A": tiny, "COLUMNS": "200"}


def without_root(text: str) -> str:
    """``text`` without the path of this checkout."""
    return text.replace(f"{ROOT}/", "").replace(str(ROOT), "CHECKOUT")


def answer(line: str, folder: Path, env: dict[str, str]) -> str:
    """What one line of bash prints, and its exit code where it is not 0."""
    try:
        ran = subprocess.run(
            ["bash", "-c", line],
            cwd=folder, env=env, text=True, timeout=LIMIT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            # a script that is started in the background ignores Ctrl-C, and so would this process
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"  NO ANSWER in {LIMIT} s\n"
    text = without_root(ran.stdout.replace(str(folder), "."))
    shown = "".join(f"  {row}\n" for row in text.splitlines())
    return shown + (f"  exit {ran.returncode}\n" if ran.returncode else "")


def chosen(only: list[str] | None) -> Iterator[tuple[str, str, list[str]]]:
    """(review, finding, lines of bash)."""
    for review, findings in (("reliability", RELIABILITY), ("truth", TRUTH)):
        for finding, lines in findings.items():
            if not only or f"{review}-{finding.removesuffix(' *')}" in only:
                yield review, finding, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", help="findings, such as reliability-4 or truth-8")
    found = list(chosen(parser.parse_args().only))
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        env = environment(base)
        trained, folder = base / "trained", base / "finding"
        trained.mkdir()
        if any(finding.endswith("*") for _, finding, _ in found):
            print(f"$ {PREPARE}    # the store that findings with * start from")
            print(answer(f"{PREPARE} 2>&1 | tail -1", trained, env), flush=True)
        for review, finding, lines in found:
            shutil.rmtree(folder, ignore_errors=True)
            if finding.endswith("*"):
                shutil.copytree(trained, folder)
            else:
                folder.mkdir()
            print(f"== {review}.md {finding}")
            for line in lines:
                said = answer(line, folder, env)
                print(f"$ {without_root(line)}\n{said}", end="", flush=True)
    print(f"== not here\n{SLOW}")


if __name__ == "__main__":
    main()
