"""Recurrent layers as deployed: what Keras and simulated programs compute lies in what is bounded."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from simulated import drawn, simulated

from tfcert.network import from_keras
from tfcert.options import BoundOptions
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.supported import guarantee_of
from tfcert.sets.balls import LpBall


@pytest.mark.parametrize("layer", [L.SimpleRNN, L.LSTM, L.GRU])
def test_recurrent_layers_hold_what_programs_compute(layer):
    """Catches a gate, a product or a state that is bounded as if it were computed exactly."""
    rng = np.random.default_rng(0)
    x = keras.Input((3, 2))
    model = keras.Model(x, L.Dense(2)(layer(3)(x)))
    model.set_weights([3 * rng.normal(size=w.shape) for w in model.get_weights()])
    network, options = from_keras(model), BoundOptions(rounding="deployed")
    points = (4 * rng.normal(size=(7, 3, 2))).astype(np.float32)
    compiled = tf.function(model, jit_compile=True)
    answers = [np.asarray(run(points[:count]))[:1] for run in (model, compiled) for count in (1, 7)]
    answers.append(model.predict(points, batch_size=3, verbose=0)[:1])
    answers += [simulated(network, drawn(seed))(points[:1]) for seed in range(25)]
    answers = np.concatenate(answers).astype(np.float64)
    assert np.ptp(answers, axis=0).max() > 0
    rows = np.concatenate([np.eye(2), -np.eye(2)])[None]
    for method in ("ibp", "crown-ibp"):
        assert guarantee_of(network, method, None, options).value == "float32-any-order"
        ball = LpBall(points[:1], 0.0, "linf")
        below = lower_bounds(network, ball, rows, np.zeros((1, 4)), method=method, options=options)[0]
        values = answers @ rows[0].T
        assert (below <= values).all() and (values - below).max() < 0.05
