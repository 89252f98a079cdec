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
from tfcert.certification.engine import lower_bounds
from tfcert.certification.rounding import proves, rounding, taken
from tfcert.certification.search import Search, first_guess, largest_radius

__all__ = [
    "Bounds", "Certification", "Radii", "Search", "bounds", "certified_radius", "certify", "first_guess", "first_order",
    "largest_radius",
    "lower_bounds", "margins", "network_of", "proves", "rounding", "taken",
]  # fmt: skip
