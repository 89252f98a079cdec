"""A text classifier with embeddings and attention, certified against synonyms: trained in half a minute.

Sentences come from a small grammar ("the new film was not quite good and we left early"): they praise or they do not,
and ``not`` turns an adjective around. Words of one line of ``SYNONYMS`` mean the same. Certified is that no sentence
changes its class when words are replaced by synonyms, one at a time, two at a time, or all at once.

    python examples/text_attention.py
"""

from __future__ import annotations

import argparse
from itertools import chain

import keras
import numpy as np
import tensorflow as tf

import tfcert

PRAISE = ("good", "great", "fine", "lovely", "superb")
BLAME = ("bad", "dull", "poor", "awful", "weak")
NOUNS = ("film", "movie", "picture")
PLACES = ("book", "novel", "story")
AGES = ("new", "latest", "recent")
DEGREES = ("very", "quite", "really")
CLOSES = ("we", "they", "people")
STAYED = ("stayed", "clapped", "returned")
LEFT = ("left", "slept", "complained")
SYNONYMS = (PRAISE, BLAME, NOUNS, PLACES, AGES, DEGREES, CLOSES, STAYED, LEFT)
OTHERS = ("the", "was", "not", "and", "then", "so")
WORDS = {word: i for i, word in enumerate(chain(*SYNONYMS, OTHERS))}
LENGTH = 11
EPOCHS, BATCH, SENTENCES = 12, 50, 3000


def sentence(random: np.random.Generator) -> tuple[list[str], int]:
    """Words, as many as every sentence has, and whether they praise."""
    praises, negated = random.integers(2, size=2)
    adjective = random.choice(PRAISE if praises != negated else BLAME)
    subject = random.choice(NOUNS if random.random() < 0.5 else PLACES)
    ending = random.choice(STAYED if praises else LEFT) if random.random() < 0.7 else "was"
    degree = ["not"] if negated else ["so"]
    words = ["the", random.choice(AGES), subject, "was", *degree, random.choice(DEGREES), adjective, "and", "then"]
    return [*words, random.choice(CLOSES), ending], int(praises)


def sentences(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids ``[count, LENGTH]`` and classes ``[count]``."""
    random = np.random.default_rng(seed)
    drawn = [sentence(random) for _ in range(count)]
    return np.array([[WORDS[word] for word in words] for words, _ in drawn]), np.array([label for _, label in drawn])


def substitutes() -> dict[int, tuple[int, ...]]:
    """For each word that has synonyms their ids, its own among them."""
    return {WORDS[word]: tuple(WORDS[other] for other in line) for line in SYNONYMS for word in line}


@keras.saving.register_keras_serializable("examples")
class Positions(keras.layers.Layer):
    """Adds a vector of its own to every position."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.places = self.add_weight(shape=shape[1:], initializer="random_normal", name="places")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x + self.places


def build(size: int = 16, heads: int = 2) -> keras.Model:
    """Embeddings of words and positions, a block of attention and a dense one, the mean of all positions."""
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    x = Positions(name="positions")(keras.layers.Embedding(len(WORDS), size, name="words")(tokens))
    x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(heads, size // heads, name="attention")(x, x)])
    x = keras.layers.Add()([x, keras.layers.Dense(size, activation="relu", name="hidden")(x)])
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, keras.layers.Dense(2, name="logits")(x), name="text_attention")


def train(model: keras.Model, epochs: int, count: int) -> None:
    """Trains on sentences of the grammar."""
    x, y = sentences(count, seed=1)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, epochs * len(x) // BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.004), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains, certifies and prints; returns the shares of sentences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--sentences", type=int, default=SENTENCES, help="to train on")
    parser.add_argument("--certify", type=int, default=50, metavar="N", help="sentences to certify")
    parser.add_argument("--method", default="crown")
    given = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    model = build()
    train(model, given.epochs, given.sentences)
    x, y = sentences(given.certify, seed=2)
    found = {"accuracy": float((model.predict(x, verbose=0).argmax(axis=1) == y).mean())}
    for changes, words in ((1, "one word"), (2, "two words"), (None, "any number of words")):
        certified = tfcert.certify_words(
            model, x, y, substitutes(), changes=changes, after="positions", method=given.method
        )
        found[f"certified accuracy, {words} replaced"] = float(certified.verified.mean())
    for name, share in found.items():
        print(f"{name}: {share:.2f}")
    return found


if __name__ == "__main__":
    main()
