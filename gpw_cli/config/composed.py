"""Fast Hydra composition for many points: groups are composed once, values per point.

    composed(["pruning=gpw", "pruning.sparsity=0.7"])     # DictConfig, typed by the schema

Hydra takes 0.1 s for its defaults list, in which the points of a sweep seldom differ. Values are
parsed by Hydra's parser and set as Hydra sets them, so the result is the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from gpw_cli.config.paths import conf_dir, plugged
from gpw_cli.config.schema import Config
from gpw_cli.config.target import typed, writable

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("model", "data", "pruning", "train", "quantizer", "target", "runtime", "experiment")


def is_value(override: str) -> bool:
    """Whether ``override`` sets a value of a composed configuration, not an option."""
    name, sign, _ = override.partition("=")
    special = name.startswith(("+", "~", "hydra")) or "@" in name or name in GROUPS
    return bool(sign) and not special


def composed(overrides: Sequence[str]) -> DictConfig:
    """The composition of ``overrides``; raises the errors of Hydra and OmegaConf."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import ConfigCompositionException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    values = [override for override in overrides if is_value(override)]
    parsed = OverridesParser.create().parse_overrides(values)
    config = copy.deepcopy(_options(_chosen(overrides)))
    for override in parsed:
        try:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException as error:
            message = f"Error merging override {override.input_line}"
            raise ConfigCompositionException(message) from error
    return config


def keys(overrides: Sequence[str]) -> tuple[str, ...]:
    """All dotted keys that can be set under the options in ``overrides``."""
    return _keys(_chosen(overrides))


def _chosen(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(override for override in overrides if not is_value(override))


@lru_cache(maxsize=64)
def _keys(chosen: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_below(_options(chosen)))


def _below(node: DictConfig, prefix: str = "") -> Iterator[str]:
    from omegaconf import DictConfig

    for key in node:
        name, child = f"{prefix}{key!s}", node._get_node(key)
        yield name
        if isinstance(child, DictConfig):
            yield from _below(child, f"{name}.")


def _families(overrides: Sequence[str]) -> Iterator[str]:
    """Plug-ins that ``target=NAME`` names, as options with the defaults of their schemas.

    A file of that name, of gpw or of the user, has precedence.
    """
    for override in overrides:
        group, _, name = override.partition("=")
        if group == "target" and plugged(group, name):
            yield name


@lru_cache(maxsize=64)
def _options(overrides: tuple[str, ...]) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    schema = writable(OmegaConf.structured(Config))
    OmegaConf.set_struct(schema.target, False)  # until the family is known
    ConfigStore.instance().store(name="schema", node=schema)
    for family in _families(overrides):
        node = {"family": family, "name": family}
        ConfigStore.instance().store(group="target", name=family, node=node)
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="gpw"):
        config = compose("config", list(overrides))
    config.target = typed(config.target)
    OmegaConf.set_struct(config.model.args, False)  # arguments of the user's code
    return config
