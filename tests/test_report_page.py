"""The page's tables of runs: what each reached beside dense, and where each number was made."""

from __future__ import annotations

import html
import json
import re
from functools import partial
from pathlib import Path

import pytest
from synthetic_sweep import numbers, write_sweep

from gpw_cli.report import accuracy, frontier, layers, npu, overlay
from gpw_cli.report.answer import answers, cells, pick
from gpw_cli.report.build import build_report
from gpw_cli.report.frontier import frontier_caption
from gpw_cli.report.load import load_sweep
from gpw_cli.report.page import dirty_note
from gpw_cli.report.runs import provenance_table, runs_table
from gpw_cli.report.tables import accuracy_table
from gpw_cli.report.verdict import answer_sentence, answer_table
from gpw_cli.report.words import signed_span, times_faster

RESULTS = Path(__file__).resolve().parent.parent / "results"


def edit_stage(folder: Path, point: str, stage: str, **changes: object) -> None:
    file = folder / "points" / f"{point}.json"
    record = json.loads(file.read_text())
    record["stages"][stage] |= changes
    file.write_text(json.dumps(record))


def write_with_dense(folder: Path) -> list[str]:
    """gpw at 0 (made the dense network) and 50 %; dense takes 300,000 cycles, 3 ms."""
    ids = write_sweep(folder, ("gpw",), (0.0, 0.5), npu=True)
    for point, cycles in zip(ids, (300_000, 120_000), strict=True):
        file = folder / "points" / f"{point}.json"
        record = json.loads(file.read_text())
        metrics = record["stages"]["simulate"]["metrics"]
        metrics |= {"cycles": cycles, "milliseconds": cycles / 1e5}
        record["config"]["quantizer"] = {"name": "best"}
        if cycles == 300_000:
            record["axes"]["scheme"] = "dense"
        file.write_text(json.dumps(record))
    return ids


def test_a_run_stands_beside_its_dense_network(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    ids = write_with_dense(folder)
    table = runs_table(load_sweep(folder))
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert [row["run"] for row in rows] == ids
    dense, pruned = rows
    assert (dense["minus dense"], dense["times faster"], dense["ms"]) == ("", "", "3.000")
    assert (pruned["sparsity"], pruned["reached"]) == ("50 %", "50.09 %")
    accuracies = [pruned[f"{name} (%)"] for name in ("fine-tuned", "quantized", "fused", "on vta")]
    assert accuracies == ["90.75", "90.55", "90.65", "90.65"]
    assert pruned["minus dense"] == "-0.75"  # 90.65 against 91.40, both on vta
    assert (pruned["cycles"], pruned["ms"], pruned["times faster"]) == ("120,000", "1.200", "2.50")
    assert pruned["DRAM bytes"] == "449,206"


def test_each_number_has_the_commit_of_its_own_stage(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    ids = write_with_dense(folder)
    edit_stage(folder, ids[1], "simulate", commit="0123456789ab-dirty")
    sweep = load_sweep(folder)
    table = runs_table(sweep)
    last = dict(zip(table.head, table.rows[1], strict=True))
    assert last["fine-tune commit"] == "c0ffee"
    assert last["simulate commit"] == "0123456789ab-dirty"
    made = provenance_table(sweep)
    row = dict(zip(made.head, made.rows[1], strict=True))
    assert row["simulate"] == "0123456789ab-dirty s"
    assert row["pretrain"] == f"c0ffee {'p' * 12}"
    assert dirty_note(sweep).startswith("1 stage of 12 ")
    build_report(folder)
    page = (folder / "report.html").read_text()
    assert page.count('class="l dirty"') == 2  # in both tables
    lines = (folder / "results.csv").read_text().splitlines()
    found = dict(zip(lines[0].split(","), lines[2].rsplit('"', 1)[1].split(","), strict=True))
    assert found["simulate_commit"] == "0123456789ab-dirty"
    assert found["finetune_commit"] == "c0ffee"


def test_what_is_not_known_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for point in write_sweep(folder):
        for stage in ("pretrain", "prune", "finetune"):
            edit_stage(folder, point, stage, commit=None)
    build_report(folder)
    page = (folder / "report.html").read_text()
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", page)
    assert len(cells) > 50
    assert not {"nan", "None", "<NA>"} & set(cells)
    assert "cycles" not in runs_table(load_sweep(folder)).head


@pytest.mark.parametrize("name", ["a <b> & 'c'", '"><script>alert(1)</script>'])
def test_every_text_is_escaped(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, sparsities=(0.5,))
    head = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**head, "name": name, "overrides": [name]}))
    build_report(folder)
    page = (folder / "report.html").read_text()
    assert name not in page
    assert page.count("<script") == 1


def test_figures_have_text_and_numbers_for_the_pointer(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_with_dense(folder)
    build_report(folder)
    svg = (folder / "figures/accuracy_vs_cycles.svg").read_text()
    assert len(re.findall(r"<text[ >]", svg)) > 10
    titles = re.findall(r"<title>([^<]*)</title>", svg)
    assert len(titles) == 4  # two networks against cycles, two against DRAM bytes
    pruned, *_ = (title for title in titles if "50.09 %" in title or "50 %" in title)
    assert {"90.65", "120,000", "1.200", "449,206"} <= set(re.findall(r"[\d.,]*\d", pruned))
    sparsity = (folder / "figures/accuracy_vs_sparsity.svg").read_text()
    assert re.findall(r"<title>([^<]*)</title>", sparsity) == ["gpw at 50 %: 90.75 (1 seed)"]


def test_cycles_have_a_second_axis_in_ms(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_with_dense(folder)
    axes = overlay.draw_overlay(load_sweep(folder)).axes[0]
    (above,) = axes.child_axes
    axes.figure.draw_without_rendering()
    low, high = axes.get_xlim()  # thousand cycles at 100 MHz
    assert above.get_xlim() == pytest.approx((low / 100, high / 100))


def test_the_heatmap_has_a_scale_and_names_every_column(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, sparsities=tuple(n / 40 for n in range(1, 33)))
    cells, scale = layers.draw_layers(load_sweep(folder)).axes
    assert [text.get_text() for text in scale.get_xticklabels()] == ["0", "25", "50", "75", "100"]
    assert len(cells.get_xticklabels()) == 64
    assert cells.get_xticklabels()[1].get_text() == "5"


def test_panels_above_each_other_share_their_range_of_x(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, sparsities=(0.0, 0.5, 0.9), npu=True)
    sweep = load_sweep(folder)
    for figure in (
        accuracy.draw_accuracy(sweep),
        npu.draw_cycles(sweep),
        npu.draw_npu_accuracy(sweep),
    ):
        assert len(figure.axes) == 2
        assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_under_a_budget_no_sparsity_was_requested(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    ids = write_sweep(folder, ("gpw",), (0.5,), npu=True)
    asked = load_sweep(folder)
    assert accuracy_table(asked).head[1:3] == ["requested", "reached"]
    file = folder / "points" / f"{ids[0]}.json"
    record = json.loads(file.read_text())
    record["config"]["pruning"]["scope"] = "cycles"
    file.write_text(json.dumps(record))
    table = accuracy_table(load_sweep(folder))
    assert (table.head[1], table.rows[0][1]) == ("sparsity", "50.09 %")
    assert len(table.head) == len(table.rows[0]) == 6
    cells, _ = layers.draw_layers(load_sweep(folder)).axes
    assert cells.get_xlabel() == "Sparsity of the prunable weights (%)"
    assert "requested" not in layers.layers_caption(load_sweep(folder))


def test_the_front_counts_its_dense_networks(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_with_dense(folder)
    assert "(1 gpw and the dense network)" in frontier_caption(load_sweep(folder))
    for file in (folder / "points").iterdir():
        record = json.loads(file.read_text())
        record["axes"] |= {"bus": record["axes"]["scheme"], "scheme": "dense", "sparsity": 0.0}
        file.write_text(json.dumps(record))
    assert "front (2 dense)" in frontier_caption(load_sweep(folder))


def test_the_name_of_a_long_run_may_break_at_its_commas(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, ("gpw",), (0.5,), (0, 1), ("layer",))
    build_report(folder)
    page = (folder / "report.html").read_text()
    assert (
        page.count('class="l long">scheme=gpw,<wbr>sparsity=0.5,<wbr>seed=1,<wbr>scope=layer<') == 2
    )


def test_a_network_that_is_cut_through_has_no_speed_up(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    ids = write_sweep(folder, ("gpw", "block"), (0.0, 0.5, 0.9), npu=True)
    for point in ids:
        record = json.loads((folder / "points" / f"{point}.json").read_text())
        cut = point == "scheme=block,sparsity=0.9"
        changes = {"gemm_weights_uops": 0, "cycles": 185} if cut else {"gemm_weights_uops": 7}
        metrics = record["stages"]["simulate"]["metrics"] | changes | {"milliseconds": 1.0}
        edit_stage(folder, point, "simulate", metrics=metrics)
    sweep = load_sweep(folder)
    assert len(frontier.networks(sweep)) == 5
    for said in (frontier_caption(sweep), npu.cycles_caption(sweep)):
        assert "block 90 % answers the same for every image" in said
        assert "185" not in said
    npu.draw_cycles(sweep)
    table = runs_table(sweep)
    (row,) = [r for r in table.rows if r[0] == "scheme=block,sparsity=0.9"]
    assert row[table.head.index("cycles")] == "185"
    found = {row.name: row for row in answers(sweep)}
    assert found["block 90 %"].faster is None
    assert "cut through" in cells(found["block 90 %"])
    assert "cut through" not in cells(found["block 50 %"])
    assert pick(list(found.values()), max_cycles=185) is None


def lede(folder: Path) -> str:
    build_report(folder)
    found = re.search(r'<p class="lede">(.*?)</p>', (folder / "report.html").read_text(), re.DOTALL)
    assert found is not None
    return html.unescape(found[1]).replace("\xa0", " ")


def test_the_page_begins_with_how_much_faster_for_how_much_accuracy(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_with_dense(folder)
    found = {row.name: row for row in answers(load_sweep(folder))}["gpw 50 %"]
    said = numbers(lede(folder).split("Within")[1])
    assert said == [3, 50, round(found.faster or 0, 2), round(-(found.loss or 0), 2)]


def test_hypothetical_hardware_is_not_the_answer_where_there_is_another(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    cycles = {"gpw": 100, "block": 50}  # block is the faster, on hardware that does not exist
    ids = write_sweep(folder, ("gpw", "block"), (0.0, 0.5), npu=True)
    for point in ids:
        record = json.loads((folder / "points" / f"{point}.json").read_text())
        scheme, dense = record["axes"]["scheme"], float(record["axes"]["sparsity"]) == 0
        metrics = record["stages"]["simulate"]["metrics"]
        metrics |= {"cycles": 200 if dense else cycles[scheme], "test_accuracy": 91.0}
        record["config"]["quantizer"] = {"name": "best"}
        record["axes"] |= {"scheme": "dense"} if dense else {}
        (folder / "points" / f"{point}.json").write_text(json.dumps(record))
    assert "block 50 %" in answer_sentence(load_sweep(folder))
    for point, said in ((ids[3], "gpw 50 %"), (ids[1], "(hypothetical)")):
        metrics = json.loads((folder / "points" / f"{point}.json").read_text())
        metrics = metrics["stages"]["simulate"]["metrics"] | {"hypothetical": "skips zero tiles"}
        edit_stage(folder, point, "simulate", metrics=metrics)
        assert said in answer_sentence(load_sweep(folder))


def test_networks_of_several_clocks_are_compared_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, ("gpw", "block"), (0.5,), npu=True)
    for file in (folder / "points").iterdir():
        record = json.loads(file.read_text())
        metrics = record["stages"]["simulate"]["metrics"]
        fast = record["axes"]["scheme"] == "gpw"  # more cycles in less time, and more accurate
        metrics |= {"cycles": 200 if fast else 100, "milliseconds": 1.0 if fast else 2.0}
        file.write_text(json.dumps(record))
    found = frontier.networks(load_sweep(folder))
    assert list(found[found["front"]]["scheme"]) == ["gpw"]
    table = frontier.frontier_table(load_sweep(folder))
    assert [row[table.head.index("ms")] for row in table.rows] == ["1.000"]


def test_the_words_of_a_difference_have_no_second_sign() -> None:
    say = partial(signed_span, low="above", high="below")
    assert say([-0.05, 0.25]) == "0.05 percentage points above to 0.25 below"
    assert say([0.0, 0.25]) == "0.00 to 0.25 percentage points below"
    assert say([-0.2, -0.1]) == "0.10 to 0.20 percentage points above"
    assert say([-0.001]) == "0.00 percentage points below"
    assert [times_faster(x) for x in (1.0, 1.004, 2.5)] == [
        "not faster", "not faster", "2.50 times faster"
    ]  # fmt: skip


def test_under_a_budget_no_sparsity_is_requested(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for point in write_sweep(folder, ("gpw",), (0.0, 0.5), npu=True):
        file = folder / "points" / f"{point}.json"
        record = json.loads(file.read_text())
        if float(record["axes"]["sparsity"]) > 0:
            record["config"]["pruning"]["scope"] = "cycles"
        file.write_text(json.dumps(record))
    table = runs_table(load_sweep(folder))
    asked, reached = (table.head.index(name) for name in ("sparsity", "reached"))
    assert [row[asked] for row in table.rows] == ["0 %", ""]
    assert table.rows[1][reached] != ""


def test_page_and_terminal_call_networks_by_the_same_names() -> None:
    sweep = load_sweep(RESULTS / "frontier")
    rows = answer_table(sweep).rows
    assert [row[0] for row in rows] == [row.name for row in answers(sweep)]
    assert "the fastest is gpw at 60,000 cycles: 3.91 times faster for 2.40" in answer_sentence(
        sweep
    )
    paper = load_sweep(RESULTS / "engines")
    assert "gpw 50 % (target vta): 1.54 times faster for 1.52" in answer_sentence(paper)
