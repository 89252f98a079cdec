"""tfcert: know that a Keras network is robust.

The public names are resolved when they are first used, so ``import tfcert`` does not import TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tfcert import quiet

if TYPE_CHECKING:
    from tfcert import callbacks, layers, metrics, objectives, plots, schedules, zoo
    from tfcert.activations import register_activation
    from tfcert.attacks import Attacks, attack
    from tfcert.certification import (
        Bounds,
        Certificate,
        Certification,
        LayerWidths,
        ProofLosses,
        Radii,
        Substitutions,
        bounds,
        certified_radius,
        certify,
        certify_words,
        layer_widths,
        margins,
        proof_losses,
        substitutions,
    )
    from tfcert.complete.api import MinimumPerturbations, minimum_perturbation
    from tfcert.complete.solver.process import SolverSettings
    from tfcert.driver.verify import verify
    from tfcert.estimates import attack_distance, clever_score, global_lipschitz_radius
    from tfcert.language import SpecError
    from tfcert.loading import load_model
    from tfcert.memory import keep_freed_memory
    from tfcert.network import (
        UnsupportedLayerError,
        embedded,
        from_keras,
        register_layer,
        with_output,
        with_preprocessing,
    )
    from tfcert.network.densify import densify
    from tfcert.options import BoundOptions
    from tfcert.propagation.question import choose_targets, first_correct
    from tfcert.report import Report, RunDifference, diff
    from tfcert.sets.balls import Box, LpBall
    from tfcert.training import (
        AbstractionErrors,
        CertifiedModel,
        GranularityTuning,
        abstraction_error,
        ibp_initialize,
        tune_granularity,
    )
    from tfcert.verdict import Guarantee, Outcome

quiet.settle()
_HOMES = {
    "AbstractionErrors": "training",
    "Attacks": "attacks",
    "BoundOptions": "options",
    "Bounds": "certification",
    "Box": "sets.balls",
    "Certificate": "certification",
    "Certification": "certification",
    "CertifiedModel": "training",
    "GranularityTuning": "training",
    "Guarantee": "verdict",
    "LayerWidths": "certification",
    "LocalWorkers": "driver.executor.local",
    "LpBall": "sets.balls",
    "MinimumPerturbations": "complete.api",
    "Outcome": "verdict",
    "ProofLosses": "certification",
    "Radii": "certification",
    "Report": "report",
    "RunDifference": "report",
    "SolverSettings": "complete.solver.process",
    "SpecError": "language",
    "Substitutions": "certification",
    "UnsupportedLayerError": "network",
    "abstraction_error": "training",
    "attack": "attacks",
    "attack_distance": "estimates",
    "bounds": "certification",
    "certified_radius": "certification",
    "certify": "certification",
    "certify_words": "certification",
    "choose_targets": "propagation.question",
    "clever_score": "estimates",
    "densify": "network",
    "diff": "report",
    "embedded": "network",
    "first_correct": "propagation.question",
    "from_keras": "network",
    "global_lipschitz_radius": "estimates",
    "ibp_initialize": "training",
    "keep_freed_memory": "memory",
    "layer_widths": "certification",
    "load_model": "loading",
    "margins": "certification",
    "minimum_perturbation": "complete.api",
    "proof_losses": "certification",
    "register_activation": "activations",
    "register_layer": "network",
    "substitutions": "certification",
    "tune_granularity": "training",
    "verify": "driver.verify",
    "with_output": "network",
    "with_preprocessing": "network",
}
"""Each public name's module inside tfcert."""
_LIGHT = ("driver.executor.local", "language", "memory", "options", "plots", "report", "sets.balls", "verdict")
"""Those of them, and of the modules below, that take no TensorFlow."""
_MODULES = ("callbacks", "layers", "metrics", "objectives", "plots", "schedules", "zoo")
"""Public modules, which are attributes of tfcert without being imported."""

__all__ = [
    "AbstractionErrors",
    "Attacks",
    "BoundOptions",
    "Bounds",
    "Box",
    "Certificate",
    "Certification",
    "CertifiedModel",
    "GranularityTuning",
    "Guarantee",
    "LayerWidths",
    "LocalWorkers",
    "LpBall",
    "MinimumPerturbations",
    "Outcome",
    "ProofLosses",
    "Radii",
    "Report",
    "RunDifference",
    "SolverSettings",
    "SpecError",
    "Substitutions",
    "UnsupportedLayerError",
    "abstraction_error",
    "attack",
    "attack_distance",
    "bounds",
    "callbacks",
    "certified_radius",
    "certify",
    "certify_words",
    "choose_targets",
    "clever_score",
    "densify",
    "diff",
    "embedded",
    "first_correct",
    "from_keras",
    "global_lipschitz_radius",
    "ibp_initialize",
    "keep_freed_memory",
    "layer_widths",
    "layers",
    "load_model",
    "margins",
    "metrics",
    "minimum_perturbation",
    "objectives",
    "plots",
    "proof_losses",
    "register_activation",
    "register_layer",
    "schedules",
    "substitutions",
    "tune_granularity",
    "verify",
    "with_output",
    "with_preprocessing",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if (name if name in _MODULES else _HOMES.get(name)) not in (None, *_LIGHT):
        quiet.import_tensorflow()
    if name in _MODULES:
        return import_module(f"tfcert.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'tfcert' has no attribute {name!r}")
    home = import_module(f"tfcert.{_HOMES[name]}")
    for public in (other for other, place in _HOMES.items() if place == _HOMES[name]):
        value = globals()[public] = getattr(home, public)
        value.__module__ = "tfcert"  # where users find it, in messages, pickles and the pages of make docs
    return globals()[name]


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext tfcert``: the cell magic ``%%prop``."""
    from tfcert.editor.notebook import register

    register(shell)
