"""Certification: margins, verification at one radius, certified radii, in batches."""

from tfcert.certification.api import (
    Bounds,
    Certification,
    Radii,
    bounds,
    certified_radius,
    certify,
    margins,
)

__all__ = [
    "Bounds", "Certification", "Radii", "bounds", "certified_radius", "certify", "margins",
]  # fmt: skip
