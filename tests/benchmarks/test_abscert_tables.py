"""AbsCert's tables: every column that the paper prints is an experiment, and competitors are networks without cells."""

import keras
import numpy as np
import pytest

from benchmarks.cells.abstraction import COMPETITORS, Annealed, Run, competitor, network
from benchmarks.cells.experiments import EXPERIMENTS
from benchmarks.cells.tables import PUBLISHED, published
from tfcert.layers import IntervalAbstraction, ParamRamp


def test_every_figure_that_the_paper_prints_has_a_run():
    for data, columns in PUBLISHED.items():
        _, runs = EXPERIMENTS[data]
        found = {(run.network, run.activation, run.eps): published(data, run) for run in runs}
        for (net, activation), figures in columns.items():
            assert [found[net, activation, eps] for eps in figures] == list(figures.values())
    _, runs = EXPERIMENTS["competitors"]
    assert len(runs) == 36 and all(published("mnist", run) is not None for run in runs)
    # What the competitors print is of images in [0, 1]: an eps of 0.1 there is 0.2 here.
    assert published("mnist", Run("dm_small", 0.0, 0.8, "lbp")) == 13.03


@pytest.mark.parametrize("training", COMPETITORS)
def test_a_competitor_s_network_receives_pixels_and_that_of_lbp_bends_twice(training):
    run = Run("dm_small", 0.0, 0.2, training, epochs=4)
    keras.utils.set_random_seed(0)
    made = network(run, (28, 28, 1))
    assert not any(isinstance(layer, IntervalAbstraction) for layer in made.layers)
    ramps = [layer for layer in made.layers if isinstance(layer, ParamRamp)]
    assert len(ramps) == (3 if training == "lbp" else 0)
    assert competitor(run).eps.final == 0.2
    if ramps:
        annealed = Annealed(4)
        annealed.set_model(made)
        slopes = []
        for epoch in range(4):
            annealed.on_epoch_begin(epoch)
            slopes.append(ramps[0].slope)
        assert slopes == pytest.approx([0.01, 0.01, 0.0075, 0.0])
        # Between its bends it is a ReLU: the same weights answer the same.
        relu = network(Run("dm_small", 0.0, 0.2, "llm"), (28, 28, 1))
        plain = [layer for layer in made.layers if not isinstance(layer, ParamRamp)]
        relu.set_weights([weight for layer in plain for weight in layer.get_weights()])
        for layer in ramps:
            layer.right.assign(np.full(layer.right.shape, 1e6))
        x = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
        np.testing.assert_allclose(made.predict(x, verbose=0), relu.predict(x, verbose=0), rtol=1e-4, atol=1e-4)
