"""The target of a configuration, typed by its family.

    load_target("vta_pynq", VtaConfig).timing.fetch_batch        # 128 instructions

Each option in ``conf/target`` has a ``family``, whose schema is in ``targets/registry.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from gpw_cli.config.paths import conf_dir, options
from gpw_cli.errors import UsageError
from gpw_cli.targets.base import TargetConfig
from gpw_cli.targets.registry import config_class

if TYPE_CHECKING:
    from omegaconf import DictConfig

C = TypeVar("C", bound=TargetConfig)


def typed(target: DictConfig) -> DictConfig:
    """The untyped node ``target`` of a YAML file, converted to the schema of its family.

    Raises UsageError for an unknown family, and errors of OmegaConf for unknown keys and values of
    a wrong type.
    """
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(target)
    family = cast(dict[str, Any], plain).get("family")
    schema = writable(OmegaConf.structured(config_class(str(family))))
    return cast("DictConfig", OmegaConf.merge(schema, plain))


def writable(node: DictConfig) -> DictConfig:
    """``node`` without read-only flags, which OmegaConf sets for frozen dataclasses."""
    from omegaconf import DictConfig, OmegaConf

    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            writable(child)
    return node


def load_target(name: str, schema: type[C]) -> C:
    """``conf/target/NAME.yaml`` as the configuration of its family, whose class is ``schema``.

    Raises UsageError for an unknown name, or one of another family.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    if name not in options("target"):
        raise UsageError(f"no target '{name}': expected one of {', '.join(options('target'))}")
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="gpw"):
        found = OmegaConf.to_object(typed(compose(f"target/{name}").target))
    if not isinstance(found, schema):
        raise UsageError(f"target '{name}' is a {type(found).__name__}, not a {schema.__name__}")
    return found
