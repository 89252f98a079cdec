"""Networks with max pooling against CNN-Cert's own program and auto_LiRPA's CROWN: no bound is looser than theirs.

Ours are larger, mostly by more than 5%. What the gain is made of, as mean margins of 4 images in L-infinity:

==============================================================  =======  ===========
what is used                                                    LeNet    7-layer CNN
==============================================================  =======  ===========
auto_LiRPA's record                                                9.44        -2.64
its lines here (the constant max u above, the largest l below)     9.58         0.11
ours by default (above: the line of the second-largest u)         11.55         6.23
==============================================================  =======  ===========

The first step is not understood in full: it depends on how ties at the zeros of ReLU are judged (an entry whose l is
another's u dominates here). The second is the line: it lies at or below that constant everywhere. With auto_LiRPA's
lines, meeting a pool's bounds with the interval of the ReLU before it (left out above) gives 0.79 on the 7-layer CNN.
Against CNN-Cert both planes are the same formulas, and its program's radii are met to 1 to 3%: it does not meet bounds
with intervals (``benchmarks/radius/pooled.py`` separates the two).
"""

import itertools

import numpy as np
import pytest
from sweeps import sweep_but
from unrounded import IGNORED

import tfcert

NETWORKS = ("mnist_lenet_relu", "mnist_cnn_7layer_small_relu")
FEW = 2
"""Images of a record that are compared (a pass takes a second or more)."""
EACH = sweep_but([(NETWORKS[0], "linf")], [(name, norm) for name in NETWORKS for norm in ("linf", "l2")])
PEERS = {"CNN-Cert-ada": ("radii", "cnncert"), "CROWN-radius": ("margins", "adaptive")}
"""Whose radii: the records' file, and our relaxation that must not fall behind."""
RADII = [
    *((name, norm, method) for name in NETWORKS for norm in ("linf", "l2") for method in PEERS),
    # CNN-Cert's program is unsound on pooling after tanh: there are no records of it.
    *(("mnist_lenet_tanh", norm, "CROWN-radius") for norm in ("linf", "l2")),
]


def gains(ours: np.ndarray, peer: np.ndarray) -> np.ndarray:
    return (ours - peer) / np.maximum(1, np.abs(peer))


def margins_at(points, network, x, norm, relaxation) -> np.ndarray:
    """Our margins at each (record, eps) for the record's target."""
    eps = np.array([eps for _, eps in points])
    labels, targets = (np.array([record[key] for record, _ in points]) for key in ("label", "target"))
    how = {"norm": norm, "relaxation": relaxation, "targets": targets, "options": IGNORED}
    return tfcert.certify(network, x, labels, eps=eps, **how).margin


@pytest.mark.parametrize(("name", "norm"), EACH)
def test_bounds_along_cnncerts_search_are_not_below_its_own(model, images, records, name, norm):
    found = records("radii", model=name, norm=norm, method="CNN-Cert-ada")[:FEW]
    visited = [(record, eps, bound) for record in found for eps, bound in record["trace"][::3]]
    points = [(record, eps) for record, eps, _ in visited]
    x = images(name, [record["image"] for record, _ in points])
    ours = margins_at(points, model(name), x, norm, "cnncert")
    assert gains(ours, np.array([bound for *_, bound in visited])).min() >= -1e-3


@pytest.mark.parametrize(("name", "norm", "method"), sweep_but(RADII[:2], RADII))
def test_the_peers_radii_are_certified(model, images, records, name, norm, method):
    file, relaxation = PEERS[method]
    found = records(file, model=name, norm=norm, method=method)
    assert found
    points = [(record, (1 - 1e-3) * record["value"]) for record in found]
    x = images(name, [record["image"] for record in found])
    assert (margins_at(points, model(name), x, norm, relaxation) > 0).all()


@pytest.mark.parametrize(("name", "norm"), EACH)
def test_the_planes_of_cnncert_certify_hardly_more_than_its_program(model, images, records, name, norm):
    found = records("radii", model=name, norm=norm, method="CNN-Cert-ada")[:FEW]
    points = [(record, 1.05 * record["value"]) for record in found]  # with the default lower line: 1.27 to 1.6 times
    x = images(name, [record["image"] for record in found])
    assert (margins_at(points, model(name), x, norm, "cnncert") < 0).all()


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize(
    ("name", "norm"), sweep_but([(NETWORKS[0], "l2")], itertools.product(NETWORKS, ["linf", "l2", "l1"]))
)
def test_margins_are_not_below_those_of_auto_lirpa(model, images, records, name, norm, method):
    (record,) = records("margins", model=name, norm=norm, method=method.upper())
    few = slice(2 * FEW)
    ball = tfcert.LpBall(images(name, record["images"][few]), record["eps"], norm)
    ours = tfcert.margins(model(name), ball, record["labels"][few], method=method, options=IGNORED)
    peer, classes = np.array(record["margins_lb"])[few], np.array(record["classes"])[few]
    assert gains(np.take_along_axis(ours, classes, axis=1), peer).min() >= -1e-3


@pytest.mark.parametrize(("name", "norm"), EACH)
def test_the_default_is_not_below_the_line_of_cnncert(model, images, records, name, norm):
    (record,) = records("margins", model=name, norm=norm, method="CROWN")
    ball = tfcert.LpBall(images(name, record["images"][: 2 * FEW]), record["eps"], norm)
    default, cnncert = (
        tfcert.margins(model(name), ball, record["labels"][: 2 * FEW], relaxation=relaxation, options=IGNORED)
        for relaxation in ("adaptive", "cnncert")
    )
    kept = np.isfinite(default)
    assert gains(default[kept], cnncert[kept]).min() >= -1e-3
