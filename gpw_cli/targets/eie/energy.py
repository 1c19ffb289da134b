"""An estimate of the energy of a run: accesses times the picojoules of one named table.

energy(counts, network_bits=0, config)["weight SRAM"]      # picojoule
"""

from __future__ import annotations

from collections.abc import Mapping

from gpw_cli.targets.eie.config import POINTER_BITS, EieConfig
from gpw_cli.targets.eie.timing import Counts


def energy(counts: Counts, dram_bits: int, config: EieConfig) -> Mapping[str, float]:
    """Picojoules by class. ``dram_bits``: bits read from and written to DRAM.

    An entry reads its shared value from the codebook; unless it is padding, it also reads and
    writes an accumulator, multiplies and adds. A broadcast reads one source register, writes and
    reads every PE's queue, and reads both pointer banks of every PE.
    """
    table = config.energy
    real = counts.entries - counts.padding
    sent = counts.broadcasts * config.pes
    registers = counts.entries + 2 * real + counts.broadcasts + 2 * sent
    return {
        "arithmetic": real * (table.multiply + table.add),
        "registers": registers * table.register,
        "weight SRAM": counts.lines * table.sram32 * config.sram_bits / 32,
        "pointer SRAM": 2 * sent * table.sram32 * POINTER_BITS / 32,
        "activation SRAM": counts.act_lines * table.sram32 * config.act_sram_bits / 32,
        "DRAM": dram_bits / 32 * table.dram32,
    }
