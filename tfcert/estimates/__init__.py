"""Comparators named in the literature, each labelled as what it is: a loose guarantee, an estimate, an upper bound."""

from tfcert.estimates.clever import CleverOptions, clever_score
from tfcert.estimates.distances import DistanceOptions, attack_distance
from tfcert.estimates.lipschitz import global_lipschitz_radius
from tfcert.estimates.results import AttackDistances, CleverScores, LipschitzRadii

__all__ = [
    "AttackDistances", "CleverOptions", "CleverScores", "DistanceOptions", "LipschitzRadii", "attack_distance",
    "clever_score", "global_lipschitz_radius",
]  # fmt: skip
