"""FGSM and PGD against any property, and the replay of a witness on the original model."""

from tfcert.attacks.gradient import AttackOptions
from tfcert.attacks.search import Attacks, attack, falsify
from tfcert.attacks.witness import replay

__all__ = ["AttackOptions", "Attacks", "attack", "falsify", "replay"]
