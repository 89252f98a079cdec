"""The networks of the papers whose methods are here: layers, sizes and recipes, without weights.

``names()`` lists them, ``describe(name)`` says where one comes from, how large it is and how the paper trains it, and
``build(name)`` makes it, untrained::

    network = tfcert.zoo.describe("mnist_cnn_4layer_5_3_sigmoid")
    print(network)
    model = tfcert.zoo.build("mnist_cnn_4layer_5_3_sigmoid")

AlexNet and Inception V1 lack local response normalisation: it divides by a tensor, and tfcert has no bounds of that.
"""

from __future__ import annotations

import difflib
from typing import Any

import keras

from tfcert.zoo import abscert, agrify, cnn_cert, constrained_ibp, imagenet
from tfcert.zoo.network import ZooNetwork, hidden_nodes
from tfcert.zoo.recipe import Recipe

__all__ = ["PAPERS", "Recipe", "ZooNetwork", "build", "describe", "hidden_nodes", "names"]

PAPERS = ("cnn-cert", "deepcert", "constrained-ibp", "agrify", "abscert")
"""The papers, by the names that :func:`names` takes."""
_MODULES = (cnn_cert, constrained_ibp, agrify, abscert, imagenet)


def names(paper: str | None = None) -> tuple[str, ...]:
    """The names of the networks: all of them, or those of a paper (one of :data:`PAPERS`).

    Raises:
        ValueError: there is no such paper.
    """
    every = tuple(name for module in _MODULES for name in module.NAMES)
    if paper is None:
        return every
    if paper not in PAPERS:
        raise ValueError(f"unknown paper {paper!r}: one of {', '.join(PAPERS)}")
    return tuple(name for name in every if paper in describe(name).papers)


def describe(name: str) -> ZooNetwork:
    """What is kept of a network: where it comes from, its sizes, its recipe. Printed, it is a few lines.

    Networks of CNN-Cert and DeepCert have a description with each of relu, sigmoid, tanh and arctan, also where the
    papers do not train them so; it then says that.

    Raises:
        ValueError: there is no such network; says which are alike.
    """
    for module in _MODULES:
        try:
            return module.entry(name)
        except KeyError:
            continue
    near = difflib.get_close_matches(name, names(), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "tfcert.zoo.names() lists them"
    raise ValueError(f"there is no network {name!r} in the zoo; {hint}")


def build(name: str, **options: Any) -> keras.Model:
    """A network, untrained; its weights are drawn from Keras's seed. Most end in logits of ten classes.

    Args:
        name: one of :func:`names`.
        options: of networks behind cells ``granularity`` and ``value_range``; of those for ImageNet also
            ``input_shape`` and ``classes``; ``classes`` of CNN-Cert's and DeepCert's; ``activation`` and ``first``
            (layers before the network) of constrained IBP's.

    Raises:
        ValueError: there is no such network, or it has no such option.
    """
    builder = describe(name).builder
    try:
        return builder(**options)
    except TypeError as error:
        if "argument" not in str(error) or not options:
            raise
        raise ValueError(f"{name}: {str(error).partition('() ')[2]}") from error
