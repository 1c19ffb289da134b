"""The family's line: where its schema and its NPU are."""

from __future__ import annotations

from gpw_cli.targets.registry import Family

family = Family("gpw_example", "AdderConfig", "Adder")
