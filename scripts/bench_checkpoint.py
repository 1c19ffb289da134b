"""CPU seconds of every stage from shipped weights in an empty store, and what an image costs.

    python scripts/bench_checkpoint.py                          # 256, 1,024 and 2,048 images
    python scripts/bench_checkpoint.py --images 2000,10000 --threads 2 runtime.root=.gpw

ResNet-20 with its shipped weights, dense; CIFAR-10 is read from ``runtime.root``, the artifacts go
to a folder that is thrown away. CPU seconds of the process are counted, not the clock, so that a
busy machine disturbs little. The first number pays for imports; from the last two follow the cost
of one more image, and that of all 10,000.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from gpw_cli.config.compose import compose
from gpw_cli.config.schema import Config
from gpw_cli.data.images import Images, Split
from gpw_cli.stages.pipeline import plan, run
from gpw_cli.stages.services import Services, Silent, open_services
from gpw_cli.store.store import Store

ALL = 10_000


class Fewer(Services):
    """Services that show the first ``shown`` test images only."""

    shown = ALL

    def images(self, config: Config) -> Images:
        """The data set, with fewer test images."""
        loaded = super().images(config)
        few = Split(loaded.test.images[: self.shown], loaded.test.labels[: self.shown])
        return replace(loaded, test=few)


def measured(config: Config, images: int, base: Services) -> dict[str, float]:
    """Stage -> CPU seconds, each with what came before it in the store."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        services = Fewer(store, base.runtime, base.threads, base.trackers, base.listener)
        services.shown = images
        services._images = base._images  # read once, outside of the stages
        for step in plan(config):
            start = time.process_time()
            run(config, services, until=step.stage.name)
            found[step.stage.name] = time.process_time() - start
    return found


def counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=counts, default=[256, 1024, 2048])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    chosen = parser.parse_args()
    given = ["scheme=dense", f"runtime.threads={chosen.threads}", *chosen.overrides]
    config = compose(given)
    base = open_services(config, Silent())
    start = time.process_time()
    base.device()
    base.images(config)
    print(f"imports and CIFAR-10: {time.process_time() - start:.2f} s of CPU")
    rows = [measured(config, images, base) for images in chosen.images]
    print(f"{'stage':10}" + "".join(f"{images:>10,}" for images in chosen.images))
    for stage in rows[0]:
        print(f"{stage:10}" + "".join(f"{row[stage]:10.2f}" for row in rows))
    print(f"{'sum':10}" + "".join(f"{sum(row.values()):10.2f}" for row in rows))
    if len(rows) > 1:
        span = chosen.images[-1] - chosen.images[-2]
        for stage in rows[0]:
            each = (rows[-1][stage] - rows[-2][stage]) / span
            whole = rows[-1][stage] + each * (ALL - chosen.images[-1])
            print(f"{stage:10} {1e3 * each:.3f} ms an image, {whole:.1f} s for all {ALL:,}")


if __name__ == "__main__":
    main()
