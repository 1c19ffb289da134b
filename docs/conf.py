"""Sphinx: ``sphinx-build -W -b html docs docs/_build`` (extra ``docs``)."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

from gpw_cli.config.compose import compose, to_plain
from gpw_cli.config.describe import settings

project = "gpw"
copyright = "MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "gpw"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"

HEAD = """# Every setting

`gpw config` prints all of them with the values that a command line resolves to, and
`gpw config --describe KEY` this text. This page is written from the schema when it is built.
"""


def write_knobs(app: Sphinx) -> None:
    """``knobs.md`` from the schema: a section a group, a row a setting."""
    lines, group = [HEAD], None
    for setting in settings(compose([])):
        name, _, _ = setting.key.rpartition(".")
        if name != group:
            group = name
            lines += [f"\n## {name or 'top level'}\n", f"{setting.group}\n"]
            lines += ["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |"]
        cells = (f"`{setting.key}`", f"`{to_plain(setting.default)}`", setting.allowed)
        lines.append(f"| {' | '.join(cells)} | {setting.text.replace('|', '/')} |")
    Path(app.srcdir, "knobs.md").write_text("\n".join(lines) + "\n")


def setup(app: Sphinx) -> None:
    """Runs before the sources are read."""
    app.connect("builder-inited", write_knobs)
