"""A network that gives every input the same class is told from one that learns, in any objective."""

import csv
import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.objectives import IBP, MTLIBP, ConstrainedIBP, CrownIBP, IntervalWidth
from tfcert.training.constancy import ConstancyWatch, ConstantNetworkWarning, Differing, constant_since, is_constant
from training.small import certified, dense_net

HEAVY = IntervalWidth(1e3, reduction="sum")


def counted(*batches):
    metric = Differing()
    for labels, logits in batches:
        metric.update_state(tf.constant(labels, tf.int64), tf.constant(logits, tf.float32))
    return is_constant(*metric.result().numpy().tolist())


def test_one_class_a_batch_is_constant_though_a_bias_moves_it_between_batches():
    low, high = [[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3
    assert counted(([0, 1, 0], low), ([1, 0, 0], high)) == 1.0
    assert counted(([0, 1, 0], low), ([1, 0, 0], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])) == 0.0


def test_labels_of_one_class_and_single_samples_tell_nothing():
    assert math.isnan(counted(([1, 1, 1], [[1.0, 0.0]] * 3)))
    assert math.isnan(counted(([0], [[1.0, 0.0]]), ([1], [[1.0, 0.0]])))
    rare = [0] * 39 + [1]
    assert math.isnan(counted((rare, [[1.0, 0.0]] * 40)))
    assert math.isnan(is_constant(0, 0, 0))


@pytest.mark.parametrize("make", [IBP, CrownIBP, MTLIBP])
def test_an_objective_that_collapses_says_so_once_and_in_the_log(make, data, tmp_path):
    """The regularizer outweighs everything else, so that widths, and with them weights, go to zero."""
    model = certified(dense_net(), make(0.3, kappa=0.5, regularizers=[HEAVY]), optimizer=keras.optimizers.Adam(0.05))
    rows = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    with pytest.warns(ConstantNetworkWarning, match="since epoch") as caught:
        fitted = model.fit(*data, batch_size=12, epochs=40, verbose=0, callbacks=[rows], validation_data=data)
    assert len([w for w in caught if w.category is ConstantNetworkWarning]) == 1
    column = fitted.history["constant"]
    assert column[0] == 0.0 and column[-1] == 1.0
    assert f"since epoch {column.index(1.0) + 1} " in str(caught[0].message)
    assert len(set(model.predict(data[0], verbose=0).argmax(axis=1))) == 1
    with open(tmp_path / "log.csv") as file:
        assert [float(row["constant"]) for row in csv.DictReader(file)] == column


@pytest.mark.parametrize("objective", [IBP(0.02), ConstrainedIBP(0.02), IBP(0.02, kappa=1.0)])
def test_a_healthy_run_says_nothing(objective, data):
    model = certified(dense_net(), objective, optimizer=keras.optimizers.Adam(0.05))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConstantNetworkWarning)
        history = model.fit(*data, batch_size=12, epochs=20, verbose=0, validation_data=data).history
    assert history["constant"][-1] == 0.0 and len(set(model.predict(data[0], verbose=0).argmax(axis=1))) > 1


@pytest.mark.parametrize(("epochs", "said"), [(4, False), (14, True)])
def test_plain_training_of_a_dead_network_says_so_but_not_within_its_first_steps(data, epochs, said):
    """No step changes it: a network that is new may give one class to everything for some steps."""
    net = dense_net()
    net.layers[0].set_weights([w * 0 - 1 for w in net.layers[0].get_weights()])
    model = certified(net, IBP(0.1, kappa=1.0), optimizer=keras.optimizers.SGD(0.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(*data, batch_size=12, epochs=epochs, verbose=0).history
    assert any(w.category is ConstantNetworkWarning for w in caught) == said
    assert history["constant"] == [1.0] * epochs


def test_labels_of_one_class_never_warn_and_rows_of_labels_are_classes(data):
    x = data[0]
    model = certified(dense_net(), IBP(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConstantNetworkWarning)
        history = model.fit(x, np.zeros(len(x), int), batch_size=12, epochs=15, verbose=0).history
    assert 1.0 not in history["constant"]
    rows = certified(dense_net(), IBP(0.02)).fit(x, np.eye(3)[data[1]], batch_size=12, epochs=1, verbose=0).history
    assert rows["constant"][0] in (0.0, 1.0)


def test_a_watch_waits_for_fifty_steps_in_a_row():
    watch = ConstancyWatch()
    assert [watch.epoch(i, 20, value) for i, value in enumerate((1.0, 1.0, 0.0, 1.0, 1.0))] == [None] * 5
    assert "since epoch 4 " in watch.epoch(5, 20, 1.0)
    assert watch.epoch(6, 20, 1.0) is None


def test_a_log_tells_since_when():
    assert constant_since([0.0, 1.0, 0.0, 1.0, 1.0]) == 4
    assert constant_since([1.0, 0.0]) is None and constant_since([math.nan]) is None and constant_since([]) is None
