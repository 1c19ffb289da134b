"""An engine as ``targets.base`` sees it: a tile and cycles, no functional simulation.

engine = Engine(load_target("nvdla_large", EngineConfig))
engine.tile                                    # (32, 64)
engine.compile(graph).time().cycles
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gpw_cli.targets.engine.config import EngineConfig

if TYPE_CHECKING:
    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.targets.engine.compiled import CompiledEngine


@dataclass(frozen=True)
class Engine:
    """One engine. It counts cycles only."""

    config: EngineConfig

    @property
    def tile(self) -> tuple[int, int]:
        """(output, input) channels of what it can skip, in stock hardware or hypothetically."""
        return self.config.tile

    @property
    def program(self) -> type[CompiledEngine]:
        """Neither simulates nor exports nor writes traces."""
        from gpw_cli.targets.engine.compiled import CompiledEngine

        return CompiledEngine

    def identity(self) -> Mapping[str, Any]:
        """All numbers, without the name and what only labels them."""
        plain = asdict(self.config)
        del plain["family"], plain["name"], plain["hypothetical"]
        return {"engine": plain}

    def compile(self, graph: IntGraph) -> CompiledEngine:
        """The work of each layer. ``time`` raises UnsupportedError where no tile fits."""
        from gpw_cli.targets.engine.work import works_of

        return self.program(works_of(graph, self.config), self.config)
