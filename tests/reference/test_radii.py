"""Certified radii for given targets, and bounds along the peers' own searches, against CNN-Cert, Fast-Lin, auto_LiRPA.

At a fixed eps the relaxations are the same and so are the bounds (seen: within 1e-4). The peers' searches stop after 15
steps, up to 0.4% below the largest radius of their own bounds, so ours may be larger and must not be smaller.
"""

import numpy as np
import pytest
from sweeps import sweep_but
from unrounded import IGNORED

import tfcert

RELAXATIONS = {
    "Fast-Lin": "fastlin",
    "CNN-Cert-relu": "fastlin",
    "CNN-Cert-ada": "crown",
    "CROWN-radius": "crown",
}
"""The records' methods and the relaxation that each is."""
EVERY_NORM, NO_L1 = ("linf", "l2", "l1"), ("linf", "l2")

CASES = [
    *(("radii", "mnist_2layer_fc_20_relu", method, EVERY_NORM) for method in ("Fast-Lin", "CNN-Cert-ada")),
    *(
        ("radii", "mnist_3layer_fc_20_relu", method, EVERY_NORM)
        for method in ("Fast-Lin", "CNN-Cert-relu", "CNN-Cert-ada")
    ),
    *(("radii", "mnist_4layer_fc_100_relu", method, EVERY_NORM) for method in ("Fast-Lin", "CNN-Cert-ada")),
    *(("radii", "mnist_cnn_4layer_5_3_relu", method, EVERY_NORM) for method in ("CNN-Cert-relu", "CNN-Cert-ada")),
    ("radii", "mnist_cnn_4layer_5_3_bn_relu", "CNN-Cert-ada", EVERY_NORM),
    ("radii", "mnist_cnn_8layer_5_3_relu", "CNN-Cert-ada", NO_L1),
    ("radii", "cifar_cnn_5layer_5_3_relu", "CNN-Cert-ada", NO_L1),
    ("margins", "mnist_cnn_4layer_5_3_relu", "CROWN-radius", NO_L1),
    ("margins", "mnist_resnet_2_relu", "CROWN-radius", NO_L1),
    ("margins", "mnist_resnet_3_relu", "CROWN-radius", NO_L1),
]
EACH = [(file, name, method, norm) for file, name, method, norms in CASES for norm in norms]
USUAL = [
    *(case for case in EACH if case[1] == "mnist_3layer_fc_20_relu"),
    ("radii", "mnist_cnn_4layer_5_3_relu", "CNN-Cert-ada", "linf"),
]
"""What is compared in every run of the tests."""
BIG = {"mnist_cnn_8layer_5_3_relu", "cifar_cnn_5layer_5_3_relu", "mnist_resnet_3_relu"}
"""Networks of which fewer images and points are compared (a pass takes a second or more)."""
BIG_IMAGES = 2
SIGNS_KNOWN = 1e-2
"""What intervals that show a few neurons' signs were seen to gain at most on the 4-layer CNN, rounded up."""


@pytest.fixture
def question(model, images, records):
    """Reads the records of a case: the network, and its images, labels and targets in the records' order."""

    def read(file, name, method, norm):
        found = records(file, model=name, method=method, norm=norm)[: BIG_IMAGES if name in BIG else None]
        numbers, labels, targets = (np.array([r[key] for r in found]) for key in ("image", "label", "target"))
        return found, model(name), images(name, numbers), labels, targets

    return read


def sampled_points(name, found):
    """Of each record's 15 points (record number, eps, margin): the start, some bracketing and some near the radius."""
    step = 7 if name in BIG else 3
    return [(i, eps, margin) for i, record in enumerate(found) for eps, margin in record["trace"][::step]]


@pytest.mark.parametrize(("file", "name", "method", "norm"), sweep_but(USUAL, EACH))
def test_radii_are_not_smaller_than_the_peers(question, file, name, method, norm):
    found, network, x, labels, targets = question(file, name, method, norm)
    how = {"relaxation": RELAXATIONS[method], "targets": targets, "options": IGNORED}
    ours = tfcert.certified_radius(network, x, labels, norm=norm, tolerance=1e-4, **how)
    peer = np.array([record["value"] for record in found])
    assert (ours.radius >= (1 - 1e-3) * peer).all(), ours.radius / peer
    assert (ours.margin > 0).all()


@pytest.mark.parametrize(
    ("file", "name", "method", "norm"),
    [case for case in sweep_but(USUAL, EACH) if case.values[2].startswith("CNN-Cert")],
)
def test_bounds_along_the_peers_search_equal_theirs(question, file, name, method, norm):
    found, network, x, labels, targets = question(file, name, method, norm)
    index, eps, peer = (np.array(column) for column in zip(*sampled_points(name, found), strict=True))
    ours = tfcert.certify(
        network,
        x[index],
        labels[index],
        eps=eps,
        norm=norm,
        relaxation=RELAXATIONS[method],
        targets=targets[index],
        options=IGNORED,
    ).margin
    gain = (ours - peer) / np.maximum(1, np.abs(peer))
    assert gain.min() >= -1e-3
    # Above would be a bound that this relaxation does not give, but for neurons whose sign an interval shows.
    assert gain.max() <= (SIGNS_KNOWN if name == "mnist_cnn_4layer_5_3_relu" else 1e-3)


def test_all_records_of_unpooled_relu_networks_are_compared(records):
    pooled = {"mnist_cnn_7layer_small_relu", "mnist_lenet_relu"}
    for file in ("radii", "margins"):
        relu = [r for r in records(file) if r["method"] in RELAXATIONS and r["model"].endswith("_relu")]
        cases = {(r["model"], r["method"], r["norm"]) for r in relu if r["model"] not in pooled}
        assert cases == {case[1:] for case in EACH if case[0] == file}
