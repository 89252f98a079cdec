"""The searches that ``radius.py`` times: which networks, norms, relaxations and images, in the order they are run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import architectures, networks
from benchmarks.radius import records
from tfcert.clauses import target_classes

NORMS = ("linf", "l2", "l1")
POOLED = {"mnist_lenet", "mnist_cnn_7layer", "mnist_cnn_7layer_small"}
"""Families with max pooling, where relaxations of ReLU networks differ in their planes too."""
LARGE = {"mnist_cnn_4layer_20_3", "cifar_cnn_7layer_5_3", "cifar_cnn_5layer_10_3", "mnist_cnn_7layer"}
"""Families that take seconds an image."""
OPTIMISED = {"mnist_cnn_4layer_5_3"}
"""Families that the optimising methods run on: one of the two on which DeepCert's Table 2 compares with FROWN."""
DEEP = "mnist_cnn_8layer_5_3"
"""The other one, where each of FROWN's searches takes minutes an image."""
MLP = "mnist_4layer_fc_100_sigmoid"
"""A small network on which FROWN's searches take seconds an image."""
SIZES = (10, 100)


@dataclass(frozen=True)
class Search:
    """One batch of radius searches.

    Attributes:
        images: how many images; they are the first that the network classifies correctly, as in the papers.
    """

    network: str
    norm: str
    relaxation: str
    images: int
    method: str = "crown"

    @property
    def revision(self) -> int:
        """How often the relaxation's rule for such a network was changed since the first stored rows.

        ``cnncert`` had the default lower line on max pooling.
        """
        return int(self.relaxation == "cnncert" and architectures.split(self.network)[0] in POOLED)

    def is_measured(self, rows: Mapping[str, Any], once: bool = False) -> bool:
        """Tells whether a row of the results is of the rule of now, and has seconds unless ``once`` was enough."""
        row = rows.get(self.key)
        return row is not None and row.get("revision", 0) == self.revision and bool(once or row["seconds"])

    @property
    def key(self) -> str:
        """A name for the results."""
        return " ".join((self.network, self.norm, self.method, self.relaxation, str(self.images)))


@dataclass(frozen=True)
class Batch:
    """The images of a search: their numbers in the test set, labels, and one target class each."""

    numbers: np.ndarray
    x: np.ndarray
    labels: np.ndarray
    targets: np.ndarray


def relaxations(network: str) -> tuple[str, ...]:
    """The relaxations that the papers compare on a network; ``adaptive`` where it is none of them."""
    family, activation = architectures.split(network)
    if activation != "relu":
        return ("crown", "cnncert", "deepcert", "adaptive")
    return ("fastlin", "cnncert", "adaptive") if family in POOLED else ("fastlin", "cnncert")


def searches() -> list[Search]:
    """Everything, what is wanted most first.

    Ten images of the small networks, of these first what the papers claim most about (residual networks and LeNet-5
    with curves) and FROWN on the MLP; a hundred of those that the authors' programs were timed on; the optimising
    methods; ten images of the large networks; a hundred of the rest; FROWN on the deep networks. A hundred images are
    searched with the relaxations that the papers compare, ten with the default and CROWN's as well.
    """
    each = [(network, norm) for network in architectures.NAMES for norm in NORMS]
    small = [Search(*case, name, SIZES[0]) for case in each for name in relaxations(case[0])]
    large = [Search(*case, name, SIZES[1]) for case in each for name in ("fastlin", "cnncert", "deepcert")]
    large = [search for search in large if search.relaxation in relaxations(search.network)]
    quick = [search for search in small if not _is_large(search)]
    parts = (
        [search for search in quick if _is_claimed(search)],
        [Search(MLP, norm, "frown", SIZES[0]) for norm in NORMS],
        [search for search in quick if not _is_claimed(search)],
        [search for search in large if records.targets(search.network)],
        _optimised(each),
        [search for search in small if _is_large(search)],
        [search for search in large if not records.targets(search.network)],
        [Search(f"{DEEP}_{name}", norm, "frown", SIZES[0]) for name in ("sigmoid", "tanh") for norm in NORMS],
    )
    return [search for part in parts for search in part]


def _is_claimed(search: Search) -> bool:
    family, activation = architectures.split(search.network)
    return "resnet" in family or (family == "mnist_lenet5_avg" and activation == "arctan")


def _is_large(search: Search) -> bool:
    return architectures.split(search.network)[0] in LARGE


def _optimised(each: list[tuple[str, str]]) -> list[Search]:
    found = []
    for network, norm in each:
        family, activation = architectures.split(network)
        if family in OPTIMISED and activation in ("sigmoid", "tanh"):
            found.append(Search(network, norm, "frown", SIZES[0]))
        if family in OPTIMISED:
            found.append(Search(network, norm, "adaptive", SIZES[0], "alpha-crown"))
    return found


def batch(network: str, logits: np.ndarray, images: networks.Images, count: int) -> Batch:
    """The first ``count`` correctly classified images and their targets.

    A target is the records' where they have the image, else a random class that is neither predicted, nor the
    runner-up, nor the least likely: the records' own rule. It depends on the image alone, not on the batch.
    """
    numbers = np.flatnonzero(logits.argmax(axis=1) == images.y)[:count]
    known = records.targets(network)
    drawn = target_classes(logits[numbers], images.y[numbers], "random", numbers)
    targets = [known.get(int(n), int(target)) for n, target in zip(numbers, drawn, strict=True)]
    return Batch(numbers, images.x[numbers], images.y[numbers], np.array(targets))
