"""Objectives of certified training and their regularizers; see :class:`tfcert.CertifiedModel`."""

from tfcert.training import (
    IBP,
    MTLIBP,
    AdvIBP,
    ConstrainedIBP,
    CrownIBP,
    DualLP,
    IntervalWidth,
    LossLandscapeMatters,
    Objective,
    Regularizer,
    ReluBalance,
    Tightness,
)

__all__ = [
    "IBP", "MTLIBP", "AdvIBP", "ConstrainedIBP", "CrownIBP", "DualLP", "IntervalWidth", "LossLandscapeMatters",
    "Objective", "Regularizer", "ReluBalance", "Tightness",
]  # fmt: skip
