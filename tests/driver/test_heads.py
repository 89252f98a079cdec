"""What may be asked of a model's outputs: a softmax is peeled off, a sigmoid is not, and one output has no classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfcert.driver.bind import bind
from tfcert.driver.verify import verify
from tfcert.errors import UsageError
from tfcert.language import load

ORDERS = (
    "argmax(clf(z)) == y",
    "argmin(clf(z)) != 2",
    "argmax(clf(z)) in {cat, y} or argmin(clf(z)) == y",
    "clf(z)[y] >= max(clf(z))",
    "not (clf(z)[cat] < clf(z)[dog]) => 2*clf(z)[cat] >= 2*max(clf(z)[1], clf(z)[2])",
    "clf(z)[0] - clf(z)[1] > 0 or clf(z)[0] - clf(z)[2] > 0 and y == 1",
    "abs(clf(z)[0] - clf(z)[1]) > 0",
)
MEASURES = (
    "clf(z)[cat] <= 60%",
    "clf(z)[cat] - clf(z)[dog] > 0.1",
    "2*clf(z)[0] - clf(z)[1] - clf(z)[2] > 0",
    "2*clf(z)[0] > clf(z)[1]",
    "clf(z)[0] + clf(z)[1] >= clf(z)[2]",
    "max(clf(z)) <= 0.9",
    "clf(z)[y] > max(clf(z)[0], 0.5)",
    "argmax(clf(z)) == y and not clf(z)[y] < 0.5",
    "clf(z)[0] > clf(z)[1] + y",
)
FACTORS = ("2*clf(z)[0] > clf(z)[1]",)
QUESTIONS = {
    "property": "property p(x, y in d) {{ forall z in ball(x, linf, 0.1): {} }}",
    "exists": "property p(x, y in d) {{ exists z in ball(x, linf, 0.1): {} }}",
    "measure": "measure p(x, y in d) = largest r in [0, 1] such that forall z in ball(x, linf, r): {}",
    "cells": "abstraction g = intervals(range=[-1, 1], granularity=1)\n"
    "property p(x, y in d) abstracted by g {{ forall z in ball(x, linf, 0.1): {} }}",
}
SINGLE = (
    "argmax(clf(z)) == y",
    "argmax(clf(z)) == 0",
    "argmin(clf(z)) != 0",
    "argmax(clf(z)) in {0, 1}",
    "clf(z)[y] >= max(clf(z))",
)
SAMPLES = np.zeros((3, 2), np.float32), np.arange(3)


def built(head: str, outputs: int, inputs: int = 2):
    import keras

    keras.utils.set_random_seed(2)
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs, activation=head)])


def bound(text: str, model, outputs: str = "[cat, dog, cow]", samples=SAMPLES):
    declared = f"{{ outputs: {outputs} }}" if outputs else ""
    spec = load(
        f'prop 1\nmodel clf = keras("c.keras") {declared}\ndataset d = npz("d.npz")\n{text}\n', bound=("clf", "d")
    )
    return bind(spec, {"clf": model, "d": samples})


@pytest.mark.parametrize("outputs", ["[cat, dog, cow]", "probabilities [cat, dog, cow]"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_logits_decide_what_only_orders_outputs_and_ratios_of_probabilities_the_rest(question, outputs):
    model = built("softmax", 3, 4 if question == "cells" else 2)
    for formula in ORDERS:
        asked = bound(QUESTIONS[question].format(formula), model, outputs).tasks[0].model
        assert asked.peeled and asked.heads is None and asked.num_outputs == 3
    for formula in MEASURES:
        asked = bound(QUESTIONS[question].format(formula), model, outputs).tasks[0].model
        assert asked.peeled and asked.heads is not None and asked.num_outputs == 3
        # Comparisons with a factor need nothing but logits, and no probability is computed.
        assert (asked.network.output_shape == (3,)) == (formula in FACTORS) and not asked.heads.whole


@pytest.mark.parametrize("outputs", ["", "probabilities", "[cat, dog, cow]"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_head_is_asked_what_it_is_whatever_is_said_of_it(head, outputs):
    text = "property p {{ forall z in box([0, 1]): clf(z)[0] {} }}"
    model = built(head, 3)
    (ordered,) = bound(text.format(">= clf(z)[1]"), model, outputs).tasks
    (threshold,) = bound(text.format("<= 60%"), model, outputs).tasks
    assert ordered.model.heads is None and (threshold.model.heads is not None) == (head == "softmax")


@pytest.mark.parametrize(
    ("head", "outputs", "sentence"),
    [
        ("softmax", "logits [cat, dog, cow]", "ends in a softmax: write `outputs: probabilities`"),
        ("sigmoid", "logits", "ends in a sigmoid: write `outputs: probabilities`"),
        ("linear", "probabilities", "ends in neither a softmax nor a sigmoid"),
        ("tanh", "probabilities [cat, dog, cow]", "ends in neither a softmax nor a sigmoid"),
    ],
)
def test_a_declaration_that_the_model_contradicts_is_refused(head, outputs, sentence):
    with pytest.raises(UsageError, match=sentence):
        bound("property p { forall z in box([0, 1]): clf(z)[0] >= clf(z)[1] }", built(head, 3), outputs)


@pytest.mark.parametrize("head", ["sigmoid", "linear"])
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 1]])
def test_a_single_output_is_never_asked_for_a_class(head, labels):
    model, samples = built(head, 1), (SAMPLES[0], np.array(labels))
    for formula in SINGLE:
        for question in ("property", "exists", "measure"):
            with pytest.raises(UsageError, match=r"has no classes.* write a threshold: of a sigmoid"):
                bound(QUESTIONS[question].format(formula), model, "", samples)
    threshold = QUESTIONS["property"].format("(y == 1 => clf(z)[0] > 50%) and (y == 0 => clf(z)[0] < 50%)")
    assert bound(threshold, model, "", samples)
    for use in ("assert accuracy(clf, d) >= 0.5", "report accuracy(clf, d)"):
        with pytest.raises(UsageError, match="clf has a single output, so there are no classes to be right about"):
            bound(f"{threshold}\n{use}", model, "", samples)


def test_margins_of_a_peeled_softmax_are_differences_of_logits_for_proofs_and_witnesses(tmp_path: Path):
    model = built("softmax", 2)
    model.layers[-1].set_weights([np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0.0, 300.0])])
    text = (
        'prop 1\nmodel clf = keras("c.keras")\nstrategy s = pgd -> crown { rounding: ignore }\n'
        "property p(x, y in d) using s { forall z in ball(x, linf, 0.5): argmax(clf(z)) == y }"
    )
    x, y = np.zeros((2, 2), np.float32), np.array([1, 0])
    records = verify(text, bindings={"clf": model, "d": (x, y)}, out=tmp_path / "out", verbose=0).records
    assert [str(r.outcome) for r in records] == ["verified", "falsified"]
    # The smaller probability is below what float32 holds: then the margin is that of the smallest number above zero.
    assert records[0].verdict.margin == pytest.approx(299.5) and records[1].verdict.margin == pytest.approx(
        -103.28, abs=0.01
    )
    model.layers[-1].set_weights([np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0.0, 3.0])])
    records = verify(text, bindings={"clf": model, "d": (x, y)}, out=tmp_path / "again", verbose=0).records
    assert [r.verdict.margin for r in records] == pytest.approx([2.5, -3.0], abs=1e-4)
