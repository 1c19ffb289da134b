"""The HTML page: one file, its styles and figures inside, no script and nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from gpw_cli.report.figures import Drawn
from gpw_cli.report.load import Sweep
from gpw_cli.report.style import css_variables, inline_svg
from gpw_cli.report.tables import Table

STYLE = """
:root { color-scheme: light dark; LIGHT }
@media (prefers-color-scheme: dark) { :root { DARK } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header, main, footer { max-width: 70rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .4rem; }
a { color: var(--gpw); }
.lede { margin: 0 0 .6rem; max-width: 46rem; font-size: 1.05rem; }
.note, .files, footer { color: var(--muted); font-size: .875rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; margin: .8rem 0 0;
  list-style: none; font-size: .9rem; }
section, figure { margin: 0; padding: 1.6rem 0; border-top: 1px solid var(--grid); }
main { margin-top: 1.4rem; }
figure { display: grid; gap: 1rem 2.5rem; }
figure svg { display: block; width: 100%; height: auto; max-width: 36rem; }
figcaption p { margin: 0 0 .6rem; max-width: 46rem; }
@media (min-width: 60rem) {
  figure { grid-template-columns: 36rem 1fr; align-items: start; }
}
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--grid); vertical-align: top; }
th { color: var(--muted); font-weight: 600; }
thead th { white-space: normal; vertical-align: bottom; min-width: 3.2rem; }
.l { text-align: left; }
.reason { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
""".replace("LIGHT", css_variables(0)).replace("DARK", css_variables(1))

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""


def build_page(sweep: Sweep, drawn: Sequence[Drawn], tables: Sequence[Table]) -> str:
    """The whole page as text."""
    title = f"gpw sweep {sweep.name}"
    parts = [HEAD.format(title=escape(title), style=STYLE), _header(sweep, drawn, tables), "<main>"]
    failures = [table for table in tables if table.name == "failures"]
    rest = [table for table in tables if table.name != "failures"]
    parts += [_table(table) for table in failures]
    parts += [_figure(figure) for figure in drawn]
    parts += [_table(table) for table in rest]
    parts.append("</main>\n<footer><p>Regenerate with <code>gpw report</code>: everything here is ")
    parts.append("computed from <code>sweep.json</code> and <code>points/</code>.</p></footer>")
    return "\n".join(parts) + "\n</body>\n</html>\n"


def progress(sweep: Sweep) -> str:
    """``All 10 points are done.``, or how many are, failed and still open."""
    counts = sweep.frame["status"].value_counts()
    done, failed = int(counts.get("done", 0)), int(counts.get("failed", 0))
    total = len(sweep.frame)
    if done == total:
        return f"All {total} points are done." if total != 1 else "The one point is done."
    parts = [f"{done} of {total} points are done"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{total - done - failed} have not finished yet"] if done + failed < total else []
    return ", ".join(parts) + "."


def _header(sweep: Sweep, drawn: Sequence[Drawn], tables: Sequence[Table]) -> str:
    grids = [grid for grid in sweep.manifest.get("grids") or [] if grid]
    fixed = " ".join(map(str, sweep.manifest.get("overrides") or []))
    described = [f"Grid: {_axes(grid)}." for grid in grids] + [f"Fixed: {fixed}." if fixed else ""]
    items = [(f.name, f.title) for f in drawn] + [(t.name + "-table", t.title) for t in tables]
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in items)
    return (
        f"<header>\n<h1>{escape(sweep.name)}</h1>\n"
        f'<p class="lede">{escape(progress(sweep))} {_text(_first_sentence(drawn))}</p>\n'
        f'<p class="note">{escape(" ".join(part for part in described if part))}</p>\n'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n</header>'
    )


def _axes(grid: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{key}: {', '.join(map(str, found))}" for key, found in grid.items())


def _first_sentence(drawn: Sequence[Drawn]) -> str:
    if not drawn:
        return "No figure can be drawn before the first point finishes."
    return drawn[0].caption.split(". ")[0].rstrip(".") + "."


def _figure(figure: Drawn) -> str:
    svg = inline_svg(figure.svg, figure.name, escape(figure.title, quote=True))
    files = ", ".join(
        f'<a href="figures/{figure.name}.{kind}">{kind.upper()}</a>' for kind in ("png", "svg")
    )
    return (
        f'<figure id="{figure.name}">\n{svg}\n<figcaption><h2>{escape(figure.title)}</h2>\n'
        f'<p>{_text(figure.caption)}</p><p class="files">{files}</p></figcaption>\n</figure>'
    )


def _text(text: str) -> str:
    """Escaped, with numbers kept on the line of their percent sign."""
    return escape(text).replace(" %", "&nbsp;%")


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_left(i, table)}>{escape(cell)}</th>' for i, cell in enumerate(table.head)
    )
    rows = "\n".join(_row(row, table) for row in table.rows)
    return (
        f'<section id="{table.name}-table">\n<h2>{escape(table.title)}</h2>\n'
        f'<p class="note">{escape(table.note)}</p>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n</section>"
    )


def _row(row: Sequence[str], table: Table) -> str:
    first = f'<th scope="row" class="l">{escape(row[0])}</th>'
    rest = "".join(f"<td{_left(i, table)}>{escape(cell)}</td>" for i, cell in enumerate(row[1:], 1))
    return f"<tr>{first}{rest}</tr>"


def _left(index: int, table: Table) -> str:
    if table.name == "failures" and index == 1:
        return ' class="l reason"'
    return ' class="l"' if index < table.left else ""
