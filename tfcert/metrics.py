"""Metrics of certified training."""

from tfcert.training import MeanCertifiedRadius, VerifiedAccuracy

__all__ = ["MeanCertifiedRadius", "VerifiedAccuracy"]
