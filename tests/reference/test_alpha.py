"""alpha-CROWN: against auto_LiRPA's (20 iterations, learning rate 0.5), and against every closed form."""

from dataclasses import replace

import numpy as np
import pytest
from sweeps import sweep_but
from unrounded import IGNORED

import tfcert

OPTIONS = replace(IGNORED, iterations=20, learning_rate=0.5)
CASES = [
    ("mnist_4layer_fc_100_relu", "l1", 20),
    ("mnist_4layer_fc_100_sigmoid", "l2", 20),
    ("mnist_cnn_4layer_5_3_relu", "linf", 4),
]
"""Network, norm, and how many of the record's 20 images."""


@pytest.mark.parametrize(("name", "norm", "count"), sweep_but((), CASES))
def test_optimised_margins_are_on_average_not_below_auto_lirpa(model, images, records, name, norm, count):
    (record,) = records("margins", model=name, method="alpha-CROWN", norm=norm)
    x, labels = images(name, record["images"][:count]), np.array(record["labels"][:count])
    ball = tfcert.LpBall(x, record["eps"], norm)
    found = tfcert.margins(model(name), ball, labels, method="alpha-crown", options=OPTIONS)
    ours = np.take_along_axis(found, np.array(record["classes"][:count]), axis=1)
    peer = np.array(record["margins_lb"][:count])
    assert ours.mean() >= peer.mean() - 1e-3 * abs(peer.mean())
    assert ours.min(axis=1).mean() >= peer.min(axis=1).mean() - 1e-3 * np.abs(peer.min(axis=1)).mean()


@pytest.mark.sweep
def test_optimised_margins_are_above_those_of_every_closed_form_on_tanh(model, images, records):
    name, count = "mnist_cnn_4layer_5_3_tanh", 3
    (record,) = records("margins", model=name, method="CROWN", norm="linf")
    x, labels = images(name, record["images"][:count]), np.array(record["labels"][:count])
    ball = tfcert.LpBall(x, record["eps"])
    alpha = tfcert.margins(model(name), ball, labels, method="alpha-crown", options=replace(IGNORED, iterations=6))
    finite = np.isfinite(alpha)
    for relaxation in ("crown", "cnncert", "deepcert", "adaptive"):
        closed = tfcert.margins(model(name), ball, labels, relaxation=relaxation, options=IGNORED)
        assert alpha[finite].mean() > closed[finite].mean(), relaxation
    assert (alpha[finite] >= tfcert.margins(model(name), ball, labels, options=IGNORED)[finite] - 1e-4).all()
