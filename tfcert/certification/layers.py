"""What bounds say layer by layer: how wide they are, and where a proof loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tfcert.catalog import method_name, with_fallback
from tfcert.clauses import Clauses
from tfcert.network import Network
from tfcert.network.cache import ModelOrNetwork, network_of
from tfcert.options import BoundOptions
from tfcert.propagation.engine import joint_bounds
from tfcert.propagation.losses import Entered, entering_values, lost_by_node
from tfcert.propagation.question import asked, asked_ball, target_clauses
from tfcert.sets.balls import Perturbation
from tfcert.sets.fitting import fitted
from tfcert.showing import ShownResult, counted


@dataclass(frozen=True)
class _Layers(ShownResult):
    """What both kinds of results say of each layer; :class:`LayerWidths` explains it."""

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    neurons: np.ndarray
    unstable: np.ndarray
    width: np.ndarray
    widest: np.ndarray
    _numbered: ClassVar[str] = ""
    _most: ClassVar[int] = 100

    def _columns(self) -> dict[str, Any]:
        return {"layer": self.layers, "applies": self.kinds} | self._more() | {
            "neurons": self.neurons, "unstable": self.unstable, "mean width": self.width, "largest width": self.widest,
        }  # fmt: skip

    def _more(self) -> dict[str, Any]:
        """The columns of a kind of result, before those that all have."""
        return {}


@dataclass(frozen=True)
class LayerWidths(_Layers):
    """What is known of the values that enter each nonlinear layer, over some sets.

    Attributes:
        layers, kinds: names, and what each layer applies.
        neurons: ``[layers]``, the values that enter.
        unstable: ``[layers]``, how many of them are on both sides of a kink (of a curve: have any width), on average
            over the samples. These are what a relaxation loses at.
        width: ``[layers]``, the mean of ``upper - lower``.
        widest: ``[layers]``, the largest.
        samples: how many sets there are.
        method: how they were bounded.
    """

    samples: int
    method: str

    def __repr__(self) -> str:
        share = self.unstable.sum() / max(1, self.neurons.sum())
        return (
            f"LayerWidths of {counted(len(self.layers), 'layer')} for {counted(self.samples, 'sample')} by "
            f"{self.method}: {share:.1%} of {counted(int(self.neurons.sum()), 'neuron')} unstable"
        )


@dataclass(frozen=True)
class ProofLosses(_Layers):
    """Where a proof about one sample loses, layer by layer: ``bound + over + loss.sum() == reached``.

    The bound is the least value of a linear function of the input. At the point where it is attained the network
    itself reaches a larger margin; the difference is what the lines of each layer lose there. A margin of the network
    that is negative there shows that no method can prove the sample.

    Attributes:
        layers, kinds, neurons, unstable, width, widest: as of :class:`LayerWidths`.
        loss: ``[layers]``, what each layer's lines lose, in the unit of the margin.
        bound: the bound, without what rounding may take.
        reached: the network's margin at the point.
        over: by how much the linear function is above the bound at the point: 0 of a ball or a box that is not cut.
        point: ``[*input]``, the point.
        method: how neurons were bounded.
        about: what the margin is of, in words: a difference of two outputs, say.
    """

    loss: np.ndarray
    bound: float
    reached: float
    over: float
    point: np.ndarray
    method: str
    about: str = "the margin"

    def __repr__(self) -> str:
        lost, said = float(self.loss.sum()), "; no layer loses anything there"
        if lost > 1e-9 * max(1.0, abs(self.bound)):
            most = int(np.argmax(self.loss))
            said = f"; {self.layers[most]} loses most, {self.loss[most]:.4g} of {lost:.4g}"
        return (
            f"ProofLosses: {self.about} is at least {self.bound:.4g} by lines on bounds of {self.method}, and "
            f"{self.reached:.4g} at the point where these are least{said}"
        )

    def as_json(self) -> dict[str, Any]:
        """As ``tfcert explain --sample --json`` writes it."""
        rows = zip(
            self.layers, self.kinds, self.loss, self.neurons, self.unstable, self.width, self.widest, strict=True
        )
        names = ("layer", "applies", "loses", "neurons", "unstable", "mean_width", "largest_width")
        layers = [{n: v if isinstance(v, str) else float(v) for n, v in zip(names, row, strict=True)} for row in rows]
        said = {"about": self.about, "bound": self.bound, "over": self.over, "reached": self.reached}
        return said | {"bounds_of_neurons": self.method, "layers": layers}

    def _more(self) -> dict[str, Any]:
        whole = self.loss.sum() or 1.0
        return {"loses": self.loss, "of all": [f"{share:.0%}" for share in self.loss / whole]}


def _summed(entered: tuple[Entered, ...]) -> dict[str, Any]:
    """What :class:`LayerWidths` and :class:`ProofLosses` both say."""
    wide = [e.upper - e.lower for e in entered]
    return {
        "layers": tuple(e.name for e in entered),
        "kinds": tuple(e.kind for e in entered),
        "neurons": np.array([e.lower.shape[1] for e in entered], int),
        "unstable": np.array([e.open.sum(axis=1).mean() for e in entered], float),
        "width": np.array([w.mean() for w in wide], float),
        "widest": np.array([w.max() for w in wide], float),
    }


def layer_widths(
    model: ModelOrNetwork,
    perturbation: Perturbation,
    *,
    method: str = "crown",
    options: BoundOptions | None = None,
) -> LayerWidths:
    """Bounds of what enters each nonlinear layer over each set, summed up; ``tfcert.plots.layers`` draws them.

    Args:
        model: a model, or a network.
        perturbation: one set a sample, at least one: an :class:`~tfcert.LpBall` or :class:`~tfcert.Box`.
        method: one that propagates bounds.

    Raises:
        ValueError, UnsupportedLayerError: as for :func:`tfcert.bounds`, or a method that asks a solver.
    """
    network, method = network_of(model, perturbation.lower), method_name(method)
    perturbation = fitted(perturbation, network.parts, network.input_shape)
    if not len(perturbation):
        raise ValueError("there is no sample whose layers could be bounded")
    rows = np.zeros((len(perturbation), 1, *network.output_shape))
    _, bounds = joint_bounds(network, perturbation, rows, rows[:, :, 0], method=method, options=options)
    found = entering_values(network, bounds)
    return LayerWidths(**_summed(found), samples=len(perturbation), method=method)


def proof_losses(
    model: ModelOrNetwork,
    x: Any,
    y: Any = None,
    *,
    eps: Any,
    norm: str = "linf",
    clip: Any = None,
    free: Any = None,
    method: str = "crown",
    relaxation: str | None = None,
    fallback: str | None = None,
    targets: Any = "all",
    options: BoundOptions | None = None,
) -> ProofLosses:
    """Where the proof that one sample keeps its class loses; ``tfcert.plots.losses`` draws it.

    Args as for :func:`tfcert.certify`, of exactly one sample: ``x[7:8]``, ``y[7:8]``. The class that is nearest to
    being reached is the one that is looked at. What is explained is a backward pass with each activation's lines, on
    bounds by ``method``: of ``crown`` the proof itself, of ``alpha-crown`` the pass that it begins with.

    Raises:
        ValueError: as for :func:`tfcert.certify`, several samples, or a method that asks a solver.
    """
    network, x, y = asked(model, x, y)
    if len(x) != 1:
        raise ValueError(f"losses are of one sample, as of x[7:8] and y[7:8], not of {len(x)}")
    ball = asked_ball(network, x, eps, norm, clip, free)
    clauses = target_clauses(network, ball, y, targets)
    how = method_name(method), with_fallback(relaxation, fallback)
    return losses_of(network, ball, clauses, *how, options=options)


def losses_of(
    network: Network,
    perturbation: Perturbation,
    clauses: Clauses,
    method: str = "crown",
    relaxation: str | None = None,
    options: BoundOptions | None = None,
) -> ProofLosses:
    """The same of any clauses of one sample, by the row that settles it."""
    found = lost_by_node(network, perturbation, clauses, method, relaxation, (options or BoundOptions()).memory_mb)
    numbers: dict[str, Any] = {"loss": found.lost, "bound": found.bound, "reached": found.reached, "over": found.over}
    about = _row_words(found.row)
    return ProofLosses(**_summed(found.entered), **numbers, point=found.point, method=method, about=about)


def _row_words(row: np.ndarray) -> str:
    """What a row over the outputs is, in words, where it is short."""
    terms = [(float(row[i]), int(i)) for i in np.flatnonzero(row)]
    terms.sort(reverse=True)
    if not 1 <= len(terms) <= 2 or any(abs(weight) != 1 for weight, _ in terms):
        return "the margin"
    signs = (f"{'+' if weight > 0 else '-'} output {place}" for weight, place in terms)
    return " ".join(signs).removeprefix("+ ")
