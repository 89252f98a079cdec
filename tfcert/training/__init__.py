"""Certified training in Keras."""

from tfcert.training.abstraction import AbstractionErrors, abstraction_error
from tfcert.training.adversarial import MTLIBP, AdvIBP
from tfcert.training.dual import DualLP
from tfcert.training.granularity import GranularityTuning, tune_granularity
from tfcert.training.initialization import ibp_initialize
from tfcert.training.landscape import LossLandscapeMatters
from tfcert.training.metrics import MeanCertifiedRadius, VerifiedAccuracy
from tfcert.training.model import CertifiedModel
from tfcert.training.objectives import IBP, ConstrainedIBP, CrownIBP, Objective
from tfcert.training.regularizers import IntervalWidth, Regularizer, ReluBalance, Tightness
from tfcert.training.schedules import Constant, Ramp, Schedule

__all__ = [
    "IBP", "MTLIBP", "AbstractionErrors", "AdvIBP", "CertifiedModel", "Constant", "ConstrainedIBP", "CrownIBP",
    "DualLP", "GranularityTuning", "IntervalWidth", "LossLandscapeMatters", "MeanCertifiedRadius", "Objective", "Ramp",
    "Regularizer", "ReluBalance", "Schedule", "Tightness", "VerifiedAccuracy", "abstraction_error", "ibp_initialize",
    "tune_granularity",
]  # fmt: skip
