"""Copy the fine-tuned weights of some points of a sweep to results/<sweep>/weights.

    python scripts/keep_weights.py paper_gpw scheme=gpw,sparsity=0.7,scope=layer,seed=0

``gpw simulate --checkpoint FILE`` reads such a file and keeps its zero tiles. Points are named by
their ids (``points/*.json``); their artifacts are found in the store by the recorded keys. The
dense network is the shipped one.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("sweep", help="a folder below --results")
parser.add_argument("points", nargs="+", help="ids of finished points")
parser.add_argument("--results", type=Path, default=Path("results"))
parser.add_argument("--store", type=Path, default=Path(".gpw/store"))
args = parser.parse_args()

folder = args.results / args.sweep
(folder / "weights").mkdir(exist_ok=True)
for point in args.points:
    record = json.loads((folder / "points" / f"{point}.json").read_text())
    key = record["stages"]["finetune"]["key"]
    target = folder / "weights" / f"{point}.safetensors"
    shutil.copyfile(args.store / "finetune" / key / "model.safetensors", target)
    print(f"{target}: {record['stages']['finetune']['metrics']['test_accuracy']:.2f} %")
