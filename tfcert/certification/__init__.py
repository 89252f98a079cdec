"""Certification: margins, verification at one radius, certified radii, in batches."""

from tfcert.certification.api import (
    Bounds,
    Certification,
    Radii,
    bounds,
    certified_radius,
    certify,
    first_order,
    margins,
    network_of,
)

__all__ = [
    "Bounds", "Certification", "Radii", "bounds", "certified_radius", "certify", "first_order", "margins", "network_of",
]  # fmt: skip
