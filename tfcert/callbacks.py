"""Callbacks of certified training."""

from tfcert.training.callbacks import CertifiedEvaluation, IntervalWidths, ObjectiveScheduler

__all__ = ["CertifiedEvaluation", "IntervalWidths", "ObjectiveScheduler"]
