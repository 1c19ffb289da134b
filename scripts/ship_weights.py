"""Add the weights of a pre-training run to the package, for ``pretrain.source=bundled``.

gpw pretrain pretrain.source=scratch            # trains; the artifact is in the store
python scripts/ship_weights.py .gpw/store/pretrain/KEY
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from gpw_cli.models.weight_files import FOLDER

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("artifact", type=Path, help="the directory of a pretrain artifact")
artifact = parser.parse_args().artifact

manifest = json.loads((artifact / "manifest.json").read_text())
network = json.loads((artifact / "network.json").read_text())
inputs, metrics, provenance = manifest["inputs"], manifest["metrics"], manifest["provenance"]
name = f"{network['name']}-{network['shortcut']}-{inputs['data']['name']}"
FOLDER.mkdir(exist_ok=True)
shutil.copyfile(artifact / "model.safetensors", FOLDER / f"{name}.safetensors")
rows = [json.loads(line) for line in (artifact / "metrics.jsonl").read_text().splitlines()]
content = {
    "network": network,
    "train": inputs["train"],
    "data": inputs["data"],
    "recipe": metrics["recipe"],
    "epochs": metrics["epochs"],
    "seed": metrics["seed"],
    "precision": metrics["precision"],
    "test_accuracy": metrics["test_accuracy"],
    "n_test": metrics["n_test"],
    "trained_commit": provenance["commit"],
    "versions": provenance["versions"],
    "device": provenance["device"],
    "threads": provenance["threads"],
    "history": rows,
}
(FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
print(f"{FOLDER / name}: {metrics['test_accuracy']:.2f} % of {metrics['n_test']} images")
