"""The schedule as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

write_trace(time_program(program, timing), "trace.json")

One thread per module and one for the layers; a microsecond of the trace is one cycle.
Format: the Trace Event Format, complete events ("ph": "X").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpw_cli.targets.vta.timing.occupancy import KINDS
from gpw_cli.targets.vta.timing.report import MODULES, TimingReport

_LAYERS = len(MODULES)  # its thread
Event = dict[str, Any]


def write_trace(report: TimingReport, path: str | Path) -> None:
    """Writes the trace as JSON to ``path``. Raises OSError if that fails."""
    events = [*_names(), *_layers(report), *_batches(report), *_instructions(report)]
    text = json.dumps({"displayTimeUnit": "ns", "traceEvents": events})
    Path(path).write_text(text + "\n", encoding="utf-8")


def _names() -> Iterator[Event]:
    yield {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": "VTA"}}
    for thread, name in enumerate((*MODULES, "layers")):
        common = {"ph": "M", "pid": 0, "tid": thread}
        yield common | {"name": "thread_name", "args": {"name": name}}
        order = 0 if thread == _LAYERS else thread + 1
        yield common | {"name": "thread_sort_index", "args": {"sort_index": order}}


def _event(thread: int, name: str, begin: int, end: int, **args: Any) -> Event:
    return {
        "ph": "X",
        "pid": 0,
        "tid": thread,
        "name": name,
        "ts": begin,
        "dur": end - begin,
        "args": args,
    }


def _layers(report: TimingReport) -> Iterator[Event]:
    begin = 0
    for layer in report.layers:
        end = begin + layer.cycles
        yield _event(_LAYERS, layer.name, begin, end, **layer.split)
        begin = end


def _batches(report: TimingReport) -> Iterator[Event]:
    for batch in report.schedule.batches:
        last = batch.first + batch.count - 1
        yield _event(0, "fetch", batch.begin, batch.end, first=batch.first, last=last)


def _instructions(report: TimingReport) -> Iterator[Event]:
    work, schedule = report.work, report.schedule
    columns = (work.unit, work.kind, schedule.arrive, schedule.start, schedule.end)
    detail = (work.uops, work.bytes)
    names = report.names.tolist()
    rows = zip(*(column.tolist() for column in (*columns, *detail)), strict=True)
    for number, (unit, kind, arrive, start, end, uops, size) in enumerate(rows):
        more = {"uops": uops} if uops else {"bytes": size} if size else {}
        args = {"instruction": number, "layer": names[number], "queued": arrive, **more}
        yield _event(unit + 1, KINDS[kind], start, end, **args)
