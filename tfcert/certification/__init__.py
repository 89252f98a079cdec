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
from tfcert.certification.certificates import Certificate
from tfcert.certification.words import Substitutions, certify_words, substitutions

__all__ = [
    "Bounds", "Certificate", "Certification", "Radii", "Substitutions", "bounds", "certified_radius", "certify",
    "certify_words", "margins", "substitutions",
]  # fmt: skip
