"""The HTML page: one file with its styles, its script and its figures; it fetches nothing.

The template ``templates/page.html.j2`` escapes every text. The script sorts tables and shows the
numbers of a figure at once. The page is complete without it, and its policy lets no other script
run (by the script's hash).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gpw_cli.report.figures import Drawn
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import css_variables
from gpw_cli.report.style import inline_svg
from gpw_cli.report.tables import Table
from gpw_cli.report.verdict import answer_sentence
from gpw_cli.report.words import plural


def build_page(
    sweep: Sweep, drawn: Sequence[Drawn], tables: Sequence[Table], files: Sequence[str] = ()
) -> str:
    """The whole page as text. ``files``: data files beside it, to be linked."""
    environment = _environment()
    script = _script(environment)
    items = [(figure.name, figure.title) for figure in drawn]
    titles = {title for _, title in items}
    items += [(f"{t.name}-table", t.title + " (table)" * (t.title in titles)) for t in tables]
    return environment.get_template("page.html.j2").render(
        name=sweep.name,
        progress=progress(sweep),
        first=" ".join([_first_sentence(drawn), answer_sentence(sweep)]).strip(),
        described=_described(sweep.manifest),
        dirty=dirty_note(sweep),
        files=files,
        contents=items,
        failures=[table for table in tables if table.name == "failures"],
        tables=[table for table in tables if table.name != "failures"],
        figures=drawn,
        light=css_variables(0),
        dark=css_variables(1),
        script=Markup(script),
        script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("gpw_cli.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": _text, "breaks": _breaks}
    environment.filters |= {"svg": _svg, "column_class": _column_class}
    return environment


def _script(environment: Environment) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, "page.js")[0]


def progress(sweep: Sweep) -> str:
    """``All 10 runs are done.``, or how many are done, failed and open."""
    counts = sweep.frame["status"].value_counts()
    done, failed = int(counts.get("done", 0)), int(counts.get("failed", 0))
    total = len(sweep.frame)
    if done == total:
        return f"All {total} runs are done." if total != 1 else "The one run is done."
    parts = [f"{done} of {plural(total, 'run')} {'is' if done == 1 else 'are'} done"]
    parts += [f"{failed} failed"] if failed else []
    left = total - done - failed
    parts += [f"{left} {'has' if left == 1 else 'have'} not finished yet"] if left else []
    return ", ".join(parts) + "."


def dirty_note(sweep: Sweep) -> str:
    """How many stages ran in a checkout with local changes, which no commit identifies."""
    stages = [s for record in sweep.records.values() for s in record["stages"].values()]
    dirty = [s for s in stages if str(s.get("commit") or "").endswith("-dirty")]
    if not dirty:
        return ""
    return (
        f"{plural(len(dirty), 'stage')} of {len(stages):,} ran in a checkout with local changes: "
        f"{'its commit ends' if len(dirty) == 1 else 'their commits end'} in -dirty."
    )


def _described(manifest: Mapping[str, object]) -> list[str]:
    """The sweep's grids and overrides, a line each."""
    grids, overrides = manifest.get("grids"), manifest.get("overrides")
    found = [grid for grid in grids if grid] if isinstance(grids, list) else []
    fixed = " ".join(map(str, overrides)) if isinstance(overrides, list) else ""
    return [f"Grid: {_axes(grid)}." for grid in found] + [f"Fixed: {fixed}."] * bool(fixed)


def _axes(grid: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{key}: {', '.join(map(str, found))}" for key, found in grid.items())


def _first_sentence(drawn: Sequence[Drawn]) -> str:
    if not drawn:
        return "No figure can be drawn before the first run finishes."
    return drawn[0].caption.split(". ")[0].rstrip(".") + "."


def _svg(figure: Drawn) -> Markup:
    return Markup(inline_svg(figure.svg, figure.name, str(escape(figure.title))))


def _text(text: str) -> Markup:
    """Escaped, with numbers kept on the line of their percent sign."""
    return Markup(str(escape(text)).replace(" %", "&nbsp;%"))


def _breaks(text: str) -> Markup:
    """Escaped; a long name may go on in a new line behind a comma."""
    return Markup(str(escape(text)).replace(",", ",<wbr>"))


def _column_class(table: Table, index: int, cell: str) -> Markup:
    """The class attribute of a cell: text to the left, reasons wrap, a dirty commit is marked."""
    names = ["l"] if index < table.left or index >= len(table.head) - table.right else []
    names += ["reason"] if table.name == "failures" and index == 1 else []
    names += ["dirty"] if "-dirty" in cell else []
    return Markup(f' class="{" ".join(names)}"') if names else Markup("")
