from __future__ import annotations

import csv
import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
from synthetic_sweep import numbers, write_knobs, write_sweep

from gpw_cli.errors import UsageError
from gpw_cli.report import accuracy, frontier, knobs, layers, masks, npu, quantization, training
from gpw_cli.report.build import build_report
from gpw_cli.report.load import load_sweep
from gpw_cli.report.page import progress
from gpw_cli.report.summary import curves, differences, overlap, pareto
from gpw_cli.report.tables import (
    accuracy_table,
    difference_table,
    failures_table,
    per_layer_csv,
    results_csv,
)

NPU_FIGURES = (
    "accuracy_vs_sparsity",
    "accuracy_on_npu",
    "accuracy_by_stage",
    "cycles_vs_sparsity",
    "accuracy_vs_cycles",
    "layer_cycles",
    "accuracy_before_finetuning",
    "mask",
    "layer_sparsity",
    "finetuning_curves",
)
CSV = """\
id,status,scheme,sparsity,seed,model,data,scope,criterion,n_test,dense_accuracy,pruned_accuracy,\
accuracy,groups_total,groups_removed,sparsity_prunable,sparsity_network,pretrain_source,\
pretrain_recipe,pretrain_epochs,finetune_recipe,finetune_epochs,pretrain_commit,prune_commit,\
finetune_commit,pretrain_key,prune_key,finetune_key
"scheme=block,sparsity=0.5",done,block,0.5,0,resnet20,cifar10,layer,l1,10000,91.5000,58.5000,\
88.5000,63,32,0.507937,0.497778,bundled.safetensors,fast,45,restart,10,c0ffee,c0ffee,c0ffee,\
pppppppppppppppppppppppppppppppppppppppp,mblock0.5,fblock0.50
"scheme=gpw,sparsity=0.5",done,gpw,0.5,0,resnet20,cifar10,layer,l1,10000,91.5000,60.7500,\
90.7500,567,284,0.500882,0.490864,bundled.safetensors,fast,45,restart,10,c0ffee,c0ffee,c0ffee,\
pppppppppppppppppppppppppppppppppppppppp,mgpw0.5,fgpw0.50
"""


def rewrite(folder: Path, point: str, **changes: object) -> None:
    file = folder / "points" / f"{point}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def set_accuracy(folder: Path, point: str, value: float) -> None:
    file = folder / "points" / f"{point}.json"
    record = json.loads(file.read_text())
    record["stages"]["finetune"]["metrics"]["test_accuracy"] = value
    file.write_text(json.dumps(record))


def test_results_csv_has_exactly_these_bytes(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=(0.5,))
    assert results_csv(load_sweep(tmp_path / "s")) == CSV


def test_per_layer_csv(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=(0.5,))
    lines = per_layer_csv(load_sweep(tmp_path / "s")).splitlines()
    assert len(lines) == 1 + 2 * 7
    assert lines[0].endswith("layer,shape,grid,groups,removed,reached")
    point = '"scheme=block,sparsity=0.5",block,,0.5,0'
    assert lines[1] == f"{point},layer1.0.conv1,16x16x3x3,1x1x1x1,1,1,1.000000"


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, npu=True, sparsities=(0.0, 0.5, 0.9))
    first = {path: path.read_bytes() for path in build_report(folder)}
    second = {path: path.read_bytes() for path in build_report(folder)}
    assert first == second
    names = {path.relative_to(folder).as_posix() for path in first}
    figures = {f"figures/{name}.{kind}" for name in NPU_FIGURES for kind in ("png", "svg")}
    assert names == {"results.csv", "per_layer.csv", "report.html", *figures}
    assert not list(folder.rglob("*.tmp"))


def test_page_is_self_contained_and_its_ids_are_unique(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s")
    build_report(tmp_path / "s")
    page = (tmp_path / "s" / "report.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    allowed = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in page  # the browser runs this one and no other
    assert page.count("<script") == 1
    assert not re.search(r'(src|href)="(?!#|data:|figures/|results.csv"|per_layer.csv")', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert '<a href="results.csv">' in page
    targets = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
    assert set(targets) <= set(ids)
    assert page.count("<figcaption>") == page.count("<figure ") == 5
    assert "var(--blue)" in page
    assert "#0072b2;" not in re.sub(r"<style>.*?</style>", "", page, count=1, flags=re.S)


def test_accuracy_caption_says_what_to_conclude(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s")
    caption = accuracy.accuracy_caption(load_sweep(tmp_path / "s"))
    gaps, paper, noise, dense = [2.25, 7.29], [1, 3, 5.73, 23.83], [0.5], [91.5]
    reached, basis = [90, 88.9], [20, 10, 10_000, 1, 10, 45]  # resnet20, cifar10, n, seeds, epochs
    assert numbers(caption) == [*gaps, *paper, *noise, *dense, *reached, *basis]


def test_small_and_negative_differences_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder)
    set_accuracy(folder, "scheme=block,sparsity=0.5", 90.95)
    caption = accuracy.accuracy_caption(load_sweep(folder))
    above, below = [2, 3, 4.41, 7.29], [50, 0.20]
    assert numbers(caption)[:6] == [*above, *below]
    noise = [50, 0.5, 20, 0.23, 246, 2020]  # where, the limit, and Renda et al. on ResNet-20
    assert numbers(caption)[10:16] == noise


def test_equal_accuracies_are_not_called_lower(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, sparsities=(0.5, 0.6))
    set_accuracy(folder, "scheme=block,sparsity=0.5", 90.75)
    set_accuracy(folder, "scheme=block,sparsity=0.6", 99.0)
    caption = accuracy.accuracy_caption(load_sweep(folder))
    assert numbers(caption)[:4] == [50, 60, 8.58, 0]


def test_few_images_are_named_as_the_noise(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for point in write_sweep(folder, sparsities=(0.5,)):
        rewrite(folder, point, n_test=359)
        set_accuracy(folder, point, 90.0)
    assert {359, 0.28} <= set(numbers(accuracy.accuracy_caption(load_sweep(folder))))


def test_only_the_papers_own_setting_is_compared_with_the_paper(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for point in write_sweep(folder):
        rewrite(folder, point, config={"model": {"name": "digits"}, "data": {"name": "digits"}})
    caption = accuracy.accuracy_caption(load_sweep(folder))
    assert "paper" not in caption
    assert numbers(caption)[:2] == [2.25, 7.29]
    table = difference_table(load_sweep(folder))
    assert "paper's range" not in table.head
    assert table.rows[0] == ["gpw - block", "50 %", "+2.25", "1"]
    build_report(folder)
    assert "paper" not in (folder / "report.html").read_text()


def test_seeds_are_aggregated_and_paired(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=(0.5,), seeds=(0, 1, 2))
    sweep = load_sweep(tmp_path / "s")
    gpw, block = curves(sweep.done, "accuracy")
    assert (gpw.scheme, block.scheme) == ("gpw", "block")
    assert gpw.points[0].n == 3
    assert gpw.points[0].mean == pytest.approx(90.65)
    assert gpw.points[0].sd == pytest.approx(0.1)
    (gap,) = differences(sweep.done, "accuracy")
    assert gap.points[0].mean == pytest.approx(2.25)
    assert gap.points[0].sd == pytest.approx(0.0, abs=1e-12)  # paired: the seeds' shift cancels
    assert overlap(sweep.done, "accuracy", "gpw", "block") == []
    caption = accuracy.accuracy_caption(sweep)
    assert overlap(sweep.done, "accuracy", "block", "gpw") == [0.5]
    assert numbers(caption)[-4:] == [10_000, 3, 10, 45]  # images, seeds, epochs
    assert difference_table(sweep).rows == [["gpw - block", "50 %", "+2.25 ± 0.00", "3", "below"]]


def test_a_swept_scope_makes_its_own_curves(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", scopes=("layer", "global"))
    build_report(tmp_path / "s")
    sweep = load_sweep(tmp_path / "s")
    found = [curve.label for curve in curves(sweep.done, "accuracy")]
    schemes, scopes = ("gpw", "block"), ("layer", "global")
    assert found == [f"{scheme}, scope {scope}" for scheme in schemes for scope in scopes]
    assert len(differences(sweep.done, "accuracy")) == 2
    layer, over = [2.25, 7.29, 1, 3, 5.73, 23.83], [2.25, 7.29, 1, 3]
    assert numbers(accuracy.accuracy_caption(sweep))[:12] == [*layer, *over, 90, 7.29]
    assert accuracy_table(sweep).rows[0][-2:] == ["-0.75", "1"]


def test_a_record_of_other_keys_counts_as_not_finished(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    first, second, *_ = write_sweep(folder)
    manifest = json.loads((folder / "sweep.json").read_text())
    manifest["points"][0]["keys"] = {"finetune": "of a newer gpw"}
    manifest["points"][1]["keys"] = {"prune": "mblock0.7", "simulate": "not run yet"}
    (folder / "sweep.json").write_text(json.dumps(manifest))
    status = load_sweep(folder).frame.set_index("id")["status"]
    assert (status[first], status[second]) == ("open", "done")


def test_variants_are_compared_with_the_paper_each_on_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, seeds=(0, 1), scopes=("layer", "global"))
    for seed in (0, 1):  # gpw 75 %: global comes nearer to the paper's largest difference
        set_accuracy(folder, f"scheme=block,sparsity=0.9,seed={seed},scope=global", 70.0 - seed)
    rewrite(folder, "scheme=block,sparsity=0.5,seed=1,scope=global", status="failed")
    sweep = load_sweep(folder)
    found = numbers(accuracy.accuracy_caption(sweep))
    # at 90 % scope global is nearest to the paper's largest difference, before scope layer
    nearest = [90, 18.52, 23.83, 7.29]
    assert nearest in [found[place : place + 4] for place in range(len(found))]
    touching = {
        variant: overlap(rows, "accuracy", "gpw", "block")
        for variant, rows in sweep.done.groupby("variant")
    }
    # one point of scope global has a single seed
    assert touching == {"scope layer": [], "scope global": None}


def test_a_variant_below_block_gets_a_sentence_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, scopes=("layer", "global"))
    set_accuracy(folder, "scheme=block,sparsity=0.9,scope=global", 99.0)
    caption = accuracy.accuracy_caption(load_sweep(folder))
    layer, over = [2.25, 7.29, 1, 3, 5.73, 23.83], [2, 3, 2.25, 4.41, 90]
    assert numbers(caption)[:11] == [*layer, *over]


def test_failed_damaged_and_open_points(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    ids = write_sweep(folder)
    rewrite(folder, ids[0], status="failed", error="finetune: the loss is not <finite>", stages={})
    (folder / "points" / f"{ids[1]}.json").write_text('{"id": ')
    (folder / "points" / f"{ids[2]}.json").unlink()
    build_report(folder)
    sweep = load_sweep(folder)
    assert progress(sweep) == "3 of 6 runs are done, 2 failed, 1 has not finished yet."
    table = failures_table(sweep)
    assert table.rows[0] == [ids[0], "finetune: the loss is not <finite>"]
    damage = f"left out, {ids[1]}.json is damaged or was edited: no JSON"
    assert table.rows[1][1] == damage
    page = (folder / "report.html").read_text()
    assert "3 of 6 runs are done" in page
    assert "not &lt;finite&gt;" in page
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["failed", "failed", "open", "done", "done", "done"]
    assert rows[2]["scheme"] == "block"
    assert rows[2]["sparsity"] == "0.9"
    assert numbers(accuracy.accuracy_caption(sweep))[:4] == [90.75, 50, 89.07, 90]


def test_a_sweep_without_a_finished_point(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for point in write_sweep(folder):
        (folder / "points" / f"{point}.json").unlink()
    names = [path.name for path in build_report(folder)]
    assert names == ["report.html", "results.csv"]
    assert "0 of 6 runs are done" in (folder / "report.html").read_text()


def test_points_that_stop_after_pruning(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for point in write_sweep(folder):
        stages = json.loads((folder / "points" / f"{point}.json").read_text())["stages"]
        del stages["finetune"]
        rewrite(folder, point, stages=stages)
    stems = {path.stem for path in build_report(folder)}
    assert stems == {"results", "per_layer", "report", "mask", "layer_sparsity"} | {
        "accuracy_before_finetuning"
    }
    text = accuracy.before_caption(load_sweep(folder))
    assert numbers(text)[:3] == [60.75, 50, 20]  # the best, where, and resnet20: nothing between


def test_figures_that_no_longer_apply_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder)
    build_report(folder)
    (folder / "figures" / "mine.png").write_bytes(b"kept")
    for file in (folder / "points").iterdir():
        file.unlink()
    build_report(folder)
    assert [path.name for path in (folder / "figures").iterdir()] == ["mine.png"]


def test_the_mask_figure_is_the_middle_of_the_largest_layers(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s")
    gpw, block = masks.chosen_masks(load_sweep(tmp_path / "s"))
    assert (gpw.layer, gpw.sparsity) == ("layer3.1.conv1", 0.7)
    assert (gpw.removed, int((~gpw.kept).sum())) == (101, 101)
    assert (block.removed, int((~block.kept).sum())) == (11, 99)  # 9 positions a block
    assert gpw.kept.shape == block.kept.shape == (4, 4, 3, 3)
    caption = masks.masks_caption(load_sweep(tmp_path / "s"))
    named = numbers(caption)
    assert named[named.index(101) :][:4] == [101, 144, 11, 16]  # removed of all, gpw and block


def test_all_five_schemes_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, schemes=("fine", "vector", "gpw", "block", "channel"), sparsities=(0.5,))
    build_report(folder)
    sweep = load_sweep(folder)
    order = ["gpw", "block", "channel", "vector", "fine"]
    assert [curve.scheme for curve in curves(sweep.done, "accuracy")] == order
    assert [mask.scheme for mask in masks.chosen_masks(sweep)] == order


def test_masks_too_large_to_list_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for point in write_sweep(folder):
        stages = json.loads((folder / "points" / f"{point}.json").read_text())["stages"]
        for layer in stages["prune"]["layers"]:
            layer["kept"] = None
        rewrite(folder, point, stages=stages)
    assert "mask" not in {path.stem for path in build_report(folder)}


def test_layer_and_training_captions(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s")
    sweep = load_sweep(tmp_path / "s")
    text = layers.layers_caption(sweep)
    conv = [1.0, 1]  # layer1.0.conv1 is furthest from the requested sparsity
    gpw, block = [5.6, *conv, 55.56, 50], [50, *conv, 100, 50]
    emptied, groups = [3, 7], [1, 16, 9, 144]
    assert numbers(text) == [*gpw, *block, *emptied, *groups]
    text = training.finetuning_caption(sweep)
    assert numbers(text)[0] == 6  # runs
    assert numbers(text)[3:6] == [6, 6, 3.0]  # how many still rose, of how many, by how much


def test_pretraining_is_drawn_once_for_all_points_that_share_it(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for point in write_sweep(folder):
        stages = json.loads((folder / "points" / f"{point}.json").read_text())["stages"]
        stages["pretrain"]["history"] = stages["finetune"]["history"]
        rewrite(folder, point, stages=stages)
    assert len(training.pretrain_runs(load_sweep(folder))) == 1
    assert "pretraining_curves" in {path.stem for path in build_report(folder)}


def test_npu_captions(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=(0.0, 0.5), npu=True)
    sweep = load_sweep(tmp_path / "s")
    # percentage points below fp32, over so many runs, their mean
    assert numbers(npu.npu_accuracy_caption(sweep))[:4] == [0.10, 32, 4, 0.10]
    gpw, block = [50, 105_032, 1.90], [50, 103_701, 1.92]  # of 199,548 cycles
    assert numbers(npu.cycles_caption(sweep))[:7] == [*gpw, *block, 1.11]  # times the bound
    conv = [3.0, 2]  # layer3.0.conv2 is the slowest of each, with so many percent of the cycles
    shares = [[*conv, 25, 50], [*conv, 24, 50], [*conv, 25]]
    assert numbers(npu.layer_cycles_caption(sweep)) == [n for share in shares for n in share]


def test_one_knob_at_a_time_is_compared_with_the_preset(tmp_path: Path) -> None:
    write_knobs(tmp_path / "s", {"rounding=truncate": -3.0, "bias_bits=8": 0.1})
    sweep = load_sweep(tmp_path / "s")
    table = knobs.knobs_table(sweep)
    assert list(table.head) == ["knob", "8 bits", "4 bits"]
    assert table.rows == [
        ["rounding truncate", "-3.00", "-6.00"],
        ["bias_bits 8", "+0.10", "+0.20"],
    ]
    effects = knobs.effects(sweep).set_index(["bits", "knob"])["effect"]
    assert effects[4].to_dict() == {"rounding truncate": -6.0, "bias_bits 8": pytest.approx(0.2)}
    eight, four = [8, 3.0, 8, 0.10], [4, 6.0, 8, 0.20]  # rounding truncate, bias_bits 8
    quiet = [0.5, 8]  # bias_bits 8 stays within 0.5
    assert numbers(knobs.knobs_caption(sweep))[:10] == [*eight, *four, *quiet]
    # the preset's own curve is not mixed with the turned knobs
    assert quantization.settings(sweep)["fused"].tolist() == [91.0, 87.0]
    written = {path.stem for path in build_report(tmp_path / "s") if path.suffix == ".png"}
    assert written == {"accuracy_vs_bits", "knobs"}


def test_knobs_with_points_still_open(tmp_path: Path) -> None:
    write_knobs(tmp_path / "s", {"rounding=truncate": -3.0, "bias_bits=8": 0.1})
    (tmp_path / "s/points/scheme=dense,bits=8,quantizer.rounding=truncate.json").unlink()
    sweep = load_sweep(tmp_path / "s")
    assert knobs.knobs_table(sweep).rows[0] == ["rounding truncate", "", "-6.00"]
    eight, four = knobs.draw_knobs(sweep).axes
    assert [text.get_text() for text in eight.texts] == ["+0.10"]
    assert [text.get_text() for text in four.texts] == ["-6.00", "+0.20"]
    assert eight.get_ylim() == four.get_ylim()
    assert eight.get_xlim() == four.get_xlim()


def test_the_loss_of_a_quantizer_says_over_how_many_networks(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_knobs(folder, {})
    caption = quantization.bits_caption(load_sweep(folder))
    assert numbers(caption)[:3] == [32, 8, 0.50]  # fp32; at 8 bits the preset loses 0.50
    file = folder / "points" / "scheme=dense,bits=4.json"
    record = json.loads(file.read_text())
    record["stages"]["quantize"]["metrics"]["weight_bits"] = 8
    record["config"]["model"]["name"] = "resnet56"
    file.write_text(json.dumps(record))
    caption = quantization.bits_caption(load_sweep(folder))
    assert numbers(caption)[:4] == [32, 8, 2, 2.50]  # the mean of 2 networks


def test_the_frontier_averages_seeds_and_names_what_is_worth_it(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=(0.0, 0.5, 0.9), seeds=(0, 1, 2), npu=True)
    sweep = load_sweep(tmp_path / "s")
    found = frontier.networks(sweep)
    assert len(found) == 6
    assert set(found["n"]) == {3}
    half = found[(found["scheme"] == "gpw") & (found["sparsity"] == 0.5)].iloc[0]
    assert half["accuracy"] == pytest.approx(90.55)  # 90.75 - 0.1 for int8, mean of seeds 0 to 2
    assert half["sd"] == pytest.approx(0.1)
    assert half["bound_cycles"] == pytest.approx(0.9 * half["cycles"], abs=1)
    rows = frontier.frontier_table(sweep).rows
    assert [float(row[3].replace(",", "")) for row in rows] == sorted(found[found.front].cycles)
    assert "11.1 %" in {row[6] for row in rows}


def test_every_variant_is_compared_with_its_own_dense_network(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=(0.5,), scopes=("layer", "global"), npu=True)
    cycles = {"block,layer": 240, "block,global": 200, "gpw,layer": 120, "gpw,global": 125}
    for file in (tmp_path / "s/points").iterdir():
        point = json.loads(file.read_text())
        axes = point["axes"]
        metrics = point["stages"]["simulate"]["metrics"]
        metrics["cycles"] = 1000 * cycles[f"{axes['scheme']},{axes['scope']}"]
        axes["bus"] = axes[
            "scope"
        ]  # a setting that makes another dense network, as a scope does not
        axes |= {"scheme": "dense", "sparsity": 0.0} if axes["scheme"] == "block" else {}
        file.write_text(json.dumps(point))
    sweep = load_sweep(tmp_path / "s")
    rows = {row[0]: row[5] for row in frontier.frontier_table(sweep).rows}
    assert rows["gpw, scope layer, bus layer"] == "2.00"
    assert all(faster == "" for name, faster in rows.items() if name.startswith("dense"))
    assert {120_000, 2.00} <= set(numbers(npu.cycles_caption(sweep)))
    compared = frontier.beside_dense(frontier.networks(sweep)).set_index(["scheme", "variant"])
    assert compared["faster"]["gpw", "scope global, bus global"] == pytest.approx(1.6)


def test_cycles_are_those_of_one_image(tmp_path: Path) -> None:
    (point,) = write_sweep(tmp_path / "s", ("gpw",), (0.5,), npu=True)
    before = load_sweep(tmp_path / "s").frame.iloc[0]
    file = tmp_path / "s" / "points" / f"{point}.json"
    record = json.loads(file.read_text())
    record["stages"]["simulate"]["metrics"]["pictures_per_run"] = 4
    file.write_text(json.dumps(record))
    after = load_sweep(tmp_path / "s").frame.iloc[0]
    for column in ("cycles", "bound_cycles", "dram_bytes"):
        assert after[column] == before[column] / 4


def test_curves_overlap_within_one_standard_deviation() -> None:
    """At 0.5 means of 12 and 10 with an sd of 1.41 each: apart by less than both; at 0.7 more."""
    rows = [
        ("gpw", 0.5, 11.0), ("gpw", 0.5, 13.0), ("block", 0.5, 9.0), ("block", 0.5, 11.0),
        ("gpw", 0.7, 12.0), ("gpw", 0.7, 14.0), ("block", 0.7, 9.0), ("block", 0.7, 11.0),
    ]  # fmt: skip
    frame = pd.DataFrame(
        [
            {"variant": "", "scheme": scheme, "sparsity": x, "seed": n % 2, "accuracy": y}
            for n, (scheme, x, y) in enumerate(rows)
        ]
    )
    assert overlap(frame, "accuracy", "gpw", "block") == [0.5]
    assert overlap(frame[frame["seed"] == 0], "accuracy", "gpw", "block") is None
    assert overlap(frame, "accuracy", "block", "gpw") == [0.5, 0.7]


def test_pareto_front() -> None:
    assert pareto([(3, 90.0), (1, 80.0), (2, 79.0), (2, 85.0), (4, 90.0)]) == [1, 3, 0]


@pytest.mark.parametrize("content", [None, "{", '{"points": 3}', "[]"])
def test_a_folder_that_is_no_sweep_names_those_beside_it(
    tmp_path: Path, content: str | None
) -> None:
    write_sweep(tmp_path / "good")
    (tmp_path / "other").mkdir()
    if content is not None:
        (tmp_path / "other" / "sweep.json").write_text(content)
    with pytest.raises(UsageError, match=r"other is not a sweep: .*sweeps beside it: good\."):
        build_report(tmp_path / "other")
