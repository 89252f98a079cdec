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
from tfcert.certification.layers import LayerWidths, ProofLosses, layer_widths, proof_losses
from tfcert.certification.words import Substitutions, certify_words, substitutions

__all__ = [
    "Bounds", "Certificate", "Certification", "LayerWidths", "ProofLosses", "Radii", "Substitutions", "bounds",
    "certified_radius", "certify", "certify_words", "layer_widths", "margins", "proof_losses", "substitutions",
]  # fmt: skip
