"""Callbacks of certified training."""

from tfcert.training.callbacks import CertifiedEvaluation, IntervalWidths, ObjectiveScheduler
from tfcert.training.tuner import GranularityTuner

__all__ = ["CertifiedEvaluation", "GranularityTuner", "IntervalWidths", "ObjectiveScheduler"]
