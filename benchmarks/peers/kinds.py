"""Networks of other kinds, tfcert against auto_LiRPA with the same weights: transformers, a gated CNN, an LSTM.

python -m benchmarks.peers.kinds                 margins and times of every case (minutes), each in its own process
python -m benchmarks.peers.kinds --margins       margins alone: on a busy machine
python -m benchmarks.peers.kinds --only lstm     the cases whose name has one of these words
python -m benchmarks.peers.kinds --table         writes the README's table from the stored results

The networks are trained here on digits, in seconds each. A case is one pass of a method over 10 images and 9 margins
each, with all intermediate bounds, over L-infinity balls of one radius for each network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.common import data, machine, store, timing
from benchmarks.common.question import Question
from benchmarks.common.usage import used
from benchmarks.common.versions import commit
from benchmarks.peers.measure import ITERATIONS, LEARNING_RATE, PEER_OPTIONS, Case, Ours, in_a_process, peer_of
from benchmarks.peers.tables import PEER, US

STORE = store.Store(__file__)
METHODS = ("crown", "alpha-crown")
OPTIONS = PEER_OPTIONS | {"conv_mode": "matrix"}
"""The peer's patches know neither means nor products."""
IMAGES = 10
_TRAINED_ON, _EPOCHS, _BATCH = 10_000, 8, 100
_EARLY = 12
"""Passes before a method is timed: so many may run op by op, until tracing pays."""
_GIB = 6.0


def transformer(normalised: bool) -> keras.Model:
    """One block over 16 patches of 7x7 pixels, of attention with two heads and a dense layer; 2,300 parameters."""
    tokens = keras.Input((16, 49))
    x = keras.layers.Dense(16)(tokens)
    for part in ("attention", "dense"):
        y = keras.layers.LayerNormalization()(x) if normalised else x
        if part == "attention":
            y = keras.layers.MultiHeadAttention(2, 8)(y, y)
        else:
            y = keras.layers.Activation("relu")(keras.layers.Dense(32)(y))
            y = keras.layers.Dense(16)(y)
        x = keras.layers.Add()([x, y])
    return keras.Model(tokens, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling1D()(x)))


def squeeze_and_excitation() -> keras.Model:
    """Two convolutions, each with a gate for every channel; 14x14 pixels."""
    image = x = keras.Input((14, 14, 1))
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same")(x)
        x = keras.layers.Activation("relu")(x)
        gate = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
        gate = keras.layers.Dense(filters)(keras.layers.Activation("relu")(gate))
        gate = keras.layers.Reshape((1, 1, filters))(keras.layers.Activation("sigmoid")(gate))
        x = keras.layers.Multiply()([x, gate])
    return keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


def lstm() -> keras.Model:
    """An LSTM of 16 cells over 7 strips of 4x28 pixels."""
    rows = keras.Input((7, 112))
    return keras.Model(rows, keras.layers.Dense(10)(keras.layers.LSTM(16)(rows)))


def patches(x: np.ndarray) -> np.ndarray:
    """Digits ``[n, 28, 28, 1]`` as ``[n, 16, 49]``."""
    return x.reshape(-1, 4, 7, 4, 7).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 49)


def halved(x: np.ndarray) -> np.ndarray:
    """Digits ``[n, 28, 28, 1]`` as ``[n, 14, 14, 1]``, means of four pixels."""
    return x.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4), dtype=np.float32)


def strips(x: np.ndarray) -> np.ndarray:
    """Digits ``[n, 28, 28, 1]`` as ``[n, 7, 112]``."""
    return x.reshape(-1, 7, 112)


Build = Callable[[], keras.Model]
NETWORKS: dict[str, tuple[Build, Callable[[np.ndarray], np.ndarray], float]] = {
    "transformer": (lambda: transformer(False), patches, 0.002),
    "transformer_normalised": (lambda: transformer(True), patches, 0.001),
    "squeeze_and_excitation": (squeeze_and_excitation, halved, 0.02),
    "lstm": (lstm, strips, 0.005),
}
"""How each is built, what becomes of digits, and the radius."""


def path_of(name: str) -> Path:
    """Where a network is, or would be once trained."""
    return data.TRAINED / f"kind_{name}.keras"


def trained(name: str) -> keras.Model:
    """A network, trained where there is none yet."""
    if not path_of(name).exists():
        build, view, _ = NETWORKS[name]
        pixels, labels = (array[:_TRAINED_ON] for array in data.pixels("mnist", "train"))
        keras.utils.set_random_seed(0)
        model = build()
        model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(view(scaled(pixels)), labels, batch_size=_BATCH, epochs=_EPOCHS, verbose=0)
        path_of(name).parent.mkdir(parents=True, exist_ok=True)
        model.save(path_of(name))
    return keras.models.load_model(path_of(name))


def scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


def posed(name: str) -> Question:
    """The first test images as the network takes them, their labels, every other class, and the radius."""
    _, view, eps = NETWORKS[name]
    pixels, labels = (array[:IMAGES] for array in data.pixels("mnist", "test"))
    others = np.array([[j for j in range(10) if j != label] for label in labels])
    return Question(np.ascontiguousarray(view(scaled(pixels))), eps, labels, others)


def measure(name: str, method: str, rounds: int) -> dict[str, Any]:
    """Both sides' margins of a case, and in turn their times.

    Raises:
        AssertionError: the networks differ.
    """
    machine.limit_threads()
    model, question = trained(name), posed(name)
    ours = Ours(Case(name, method=method, same=False), model, question)
    first = ours.first() if rounds else {}
    with peer_of(model, question.x, _GIB) as peer:
        logits = model(question.x).numpy()
        assert np.abs(peer.logits() - logits).max() <= 2e-4, f"{name}: the networks differ"
        how = {"norm": "linf", "eps": question.eps, "method": method, "options": OPTIONS}
        prepared = peer.ask("prepare", rows=question.rows.tolist(), **how)
        margins, theirs = ours(), np.array(peer.ask("margins")["margins"])
        versions = peer.versions
        for _ in range(_EARLY if rounds and method == "crown" else 0):
            ours()
        passes = timing.alternate({PEER: lambda: peer.ask("run"), US: lambda: used(ours)}, rounds) if rounds else {}
    accuracy = float((logits.argmax(axis=1) == question.labels).mean())
    gain = margins - theirs
    return {
        "name": f"{name} {method}",
        "network": name,
        "method": method,
        "eps": question.eps,
        "accuracy": accuracy,
        "certified": {US: _share(margins), PEER: _share(theirs)},
        "mean_margin": {US: float(margins.mean()), PEER: float(theirs.mean())},
        "gain": {"least": float(gain.min()), "mean": float(gain.mean()), "most": float(gain.max())},
        "iterations": ITERATIONS if method == "alpha-crown" else 0,
        "learning_rate": LEARNING_RATE if method == "alpha-crown" else 0,
        "machine": machine.describe() | versions,
        "commit": commit(data.REPOSITORY, ""),
        **(
            {"passes": passes, "first_pass_seconds": {US: first["seconds"], PEER: prepared["seconds"]}}
            if rounds
            else {}
        ),
    }


def _share(margins: np.ndarray) -> float:
    """The share of images all of whose margins are positive."""
    return float((margins > 0).all(axis=1).mean())


def table(rows: list[dict[str, Any]]) -> str:
    """The stored rows as Markdown."""
    return f"{store.machine_line(rows[0]['machine'])}\n\n{store.markdown(list(map(_line, rows)))}"


def _line(row: dict[str, Any]) -> dict[str, str]:
    def both(values: dict[str, float], form: str) -> str:
        return " / ".join(format(values[side], form) for side in (PEER, US))

    passes = row.get("passes")
    faster = timing.times_faster(passes[US]["all"], passes[PEER]["all"]) if passes else None
    gain = row["gain"]
    return {
        "network": row["network"],
        "method": row["method"],
        "eps": f"{row['eps']:g}",
        "certified, of all images": both(row["certified"], ".2f"),
        "mean margin": both(row["mean_margin"], ".3f"),
        "margins above the peer's": f"{gain['least']:.3f} to {gain['most']:.3f}, mean {gain['mean']:.3f}",
        "pass, ms": both({side: 1000 * passes[side]["seconds"] for side in passes}, ".0f") if passes else "",
        "times faster": "{:.1f} ({:.1f} to {:.1f})".format(*faster) if faster else "",
        "first pass, s": both(row["first_pass_seconds"], ".1f") if passes else "",
        "load": str(row["machine"]["load_average"]),
    }


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="Transformers, a gated CNN and an LSTM against auto_LiRPA.")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="cases whose name has one of the words")
    parser.add_argument("--margins", action="store_true", help="margins alone; stored times stay where they are")
    parser.add_argument("--rounds", type=int, default=7, help="passes of each side (default: 7)")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    arguments = parser.parse_args()
    cases = [(name, method) for name in NETWORKS for method in METHODS]
    order = [f"{name} {method}" for name, method in cases]
    for name, method in [] if arguments.table else cases:
        if any(word in f"{name} {method}" for word in arguments.only):
            found = in_a_process(measure, name, method, 0 if arguments.margins else arguments.rounds)
            print(_line(found), flush=True)
            rows = {row["name"]: row for row in STORE.read("kinds", {"cases": []})["cases"]} | {found["name"]: found}
            STORE.write("kinds", {"cases": sorted(rows.values(), key=lambda row: order.index(row["name"]))})
    text = table(STORE.read("kinds")["cases"])
    STORE.write_table("kinds", text)
    print(text)


if __name__ == "__main__":
    main()
