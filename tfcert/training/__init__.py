"""Certified training in Keras."""

from tfcert.training.adversarial import MTLIBP, AdvIBP
from tfcert.training.initialization import ibp_initialize
from tfcert.training.metrics import MeanCertifiedRadius, VerifiedAccuracy
from tfcert.training.model import CertifiedModel
from tfcert.training.objectives import IBP, ConstrainedIBP, CrownIBP, Objective
from tfcert.training.regularizers import IntervalWidth, Regularizer, ReluBalance, Tightness
from tfcert.training.schedules import Constant, Ramp, Schedule

__all__ = [
    "IBP", "MTLIBP", "AdvIBP", "CertifiedModel", "Constant", "ConstrainedIBP", "CrownIBP", "IntervalWidth",
    "MeanCertifiedRadius", "Objective", "Ramp", "Regularizer", "ReluBalance", "Schedule", "Tightness",
    "VerifiedAccuracy", "ibp_initialize",
]  # fmt: skip
