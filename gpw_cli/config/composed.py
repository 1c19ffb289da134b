"""Hydra's composition for many points: the groups once, each point's values on top of a copy.

    composed(["pruning=gpw", "pruning.sparsity=0.7"])     # DictConfig, typed by the schema

Hydra takes 0.1 s to walk its defaults list, in which the points of a sweep seldom differ. Values
are read by Hydra's own parser and set as Hydra sets them, so that nothing else changes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gpw_cli.config.paths import conf_dir
from gpw_cli.config.schema import Config

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("model", "data", "pruning", "train", "quantizer", "target", "runtime", "experiment")


def is_value(override: str) -> bool:
    """Whether ``override`` sets a value of a composed configuration, and chooses no option."""
    name, sign, _ = override.partition("=")
    special = name.startswith(("+", "~", "hydra")) or "@" in name or name in GROUPS
    return bool(sign) and not special


def composed(overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes for ``overrides``; raises its exceptions and OmegaConf's."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import ConfigCompositionException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    values = [override for override in overrides if is_value(override)]
    parsed = OverridesParser.create().parse_overrides(values)
    chosen = tuple(override for override in overrides if not is_value(override))
    config = copy.deepcopy(_options(chosen))
    for override in parsed:
        try:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException as error:
            message = f"Error merging override {override.input_line}"
            raise ConfigCompositionException(message) from error
    return config


@lru_cache(maxsize=64)
def _options(overrides: tuple[str, ...]) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    ConfigStore.instance().store(name="schema", node=_writable(OmegaConf.structured(Config)))
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="gpw"):
        return compose("config", list(overrides))


def _writable(node: Any) -> Any:
    """The schema without its read-only flags: OmegaConf takes `frozen` as "may not be merged"."""
    from omegaconf import DictConfig, OmegaConf

    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            _writable(child)
    return node
