"""Options: what there are (schema), which values are allowed (validation), presets, and how they
are set (overrides).
"""
from fastgan.config.overrides import find_key, from_dict, override, replace, to_json, value_of, without_length
from fastgan.config.schema import (
    DCGAN_RESOLUTIONS,
    DENSITIES,
    LENGTHS,
    OPTIONS,
    SECTIONS,
    SET_SIZE,
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OpsConfig,
    OptimConfig,
    PenaltyConfig,
    RunConfig,
    is_used,
)

__all__ = [
    "DCGAN_RESOLUTIONS",
    "DENSITIES",
    "LENGTHS",
    "OPTIONS",
    "SECTIONS",
    "SET_SIZE",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OpsConfig",
    "OptimConfig",
    "PenaltyConfig",
    "RunConfig",
    "find_key",
    "from_dict",
    "is_used",
    "override",
    "replace",
    "to_json",
    "value_of",
    "without_length",
]
