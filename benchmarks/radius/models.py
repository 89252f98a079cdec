"""Trains the networks of CNN-Cert and DeepCert that are not among the reference networks.

python -m benchmarks.radius.models                  trains every network that is not there yet, the most wanted first
python -m benchmarks.radius.models NAME ...         those only (a network that is there is not trained again)
python -m benchmarks.radius.models --minutes 60     begins no training after an hour; the next run goes on from there
python -m benchmarks.radius.models --list           shows epochs and accuracies, and writes the README's table of them

A network's layers and hidden nodes are the papers' (``tfcert.zoo``), its weights are not: the papers
trained for 10 epochs and published neither seeds nor accuracies. Accuracies go to ``results/models.json``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import architectures, networks, store
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.common.data import TRAINED
from tfcert import zoo

STORE = store.Store(__file__)
_FIRST = (
    "mnist_cnn_5layer_5_3_relu",
    "cifar_cnn_5layer_5_3_sigmoid",
    "cifar_cnn_5layer_5_3_arctan",
    "mnist_lenet5_avg_sigmoid",
    "mnist_lenet5_avg_tanh",
    "mnist_lenet5_avg_arctan",
    "mnist_resnet_3_arctan",
    "mnist_resnet_4_sigmoid",
    "mnist_resnet_4_tanh",
    "mnist_resnet_4_arctan",
    "mnist_resnet_4_relu",
    "mnist_resnet_5_sigmoid",
    "mnist_resnet_5_tanh",
    "mnist_resnet_5_arctan",
    "mnist_lenet_arctan",
    "mnist_cnn_4layer_20_3_relu",
    "mnist_lenet_nopool_relu",
    "cifar_cnn_7layer_5_3_relu",
    "cifar_cnn_5layer_10_3_relu",
    "mnist_cnn_7layer_relu",
)
"""What is trained first where time is short: small networks and whole tables before large single ones."""

_EPOCHS = {"mnist": 3, "cifar": 4}
_BATCH = 64
_PEAK_RATE = 2e-3


def train(name: str, epochs: int, data: tuple[networks.Images, networks.Images]) -> dict[str, Any]:
    """Trains and saves one network; returns what the results say about it.

    Raises:
        AssertionError: the network does not have the paper's number of hidden nodes.
    """
    keras.utils.set_random_seed(0)
    model = architectures.build(name)
    nodes = check_nodes(name, model)
    (train_set, test_set), start = data, time.perf_counter()
    steps = epochs * -(-len(train_set.x) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps, warmup_target=_PEAK_RATE, warmup_steps=200)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA's convolutions on the CPU take up to twice as long as TensorFlow's own.
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(train_set.x, train_set.y, batch_size=_BATCH, epochs=epochs, verbose=2)
    networks.path(name).parent.mkdir(parents=True, exist_ok=True)
    model.save(networks.path(name))
    return {
        "source": "trained here",
        "epochs": epochs,
        "accuracy": accuracy(model, test_set),
        "hidden_nodes": nodes,
        "seconds": round(time.perf_counter() - start),
    }


def check_nodes(name: str, model: keras.Model) -> int:
    """The network's hidden nodes; AssertionError unless they are as many as the paper says."""
    nodes, expected = architectures.hidden_nodes(model), zoo.describe(name).hidden_nodes
    assert nodes == expected, f"{name} has {nodes} hidden nodes, not {expected}"
    return nodes


def accuracy(model: keras.Model, images: networks.Images) -> float:
    """The share of images whose largest logit is their label's."""
    logits = model.predict(images.x, batch_size=500, verbose=0)
    return round(float(np.mean(logits.argmax(axis=1) == images.y)), 4)


def results() -> dict[str, Any]:
    """What is known of the networks so far, by name."""
    return STORE.read("models", {})


def record(name: str, entry: dict[str, Any]) -> None:
    """Adds one network to the results."""
    STORE.write("models", dict(sorted((results() | {name: entry}).items())))


def table() -> str:
    """Every network as Markdown."""
    rows, known = [], results()
    for name in architectures.NAMES:
        entry = known.get(name, {})
        rows.append(
            {
                "network": name,
                "hidden nodes": str(entry.get("hidden_nodes", "")),
                "weights": entry.get("source", "not trained"),
                "epochs": str(entry.get("epochs") or ""),
                "test accuracy": f"{100 * entry['accuracy']:.1f}%" if entry else "",
            }
        )
    return store.markdown(rows)


def main() -> None:
    """Trains, or lists."""
    parser = argparse.ArgumentParser(description="Trains the networks of CNN-Cert and DeepCert.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all that are not there yet)")
    parser.add_argument("--epochs", type=int, help="passes over the training images (default: 3 MNIST, 4 CIFAR)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: 2)")
    add_minutes(parser)
    parser.add_argument("--list", action="store_true", help="only show the networks")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(architectures.NAMES)
    if unknown:
        parser.error(f"unknown networks {', '.join(sorted(unknown))}; --list shows them all")
    if arguments.list:
        text = table()
        STORE.write_table("models", text)
        print(text)
        return
    for threads in (
        tf.config.threading.set_intra_op_parallelism_threads,
        tf.config.threading.set_inter_op_parallelism_threads,
    ):
        threads(arguments.threads)
    names = arguments.names or [*_FIRST, *(name for name in architectures.NAMES if name not in _FIRST)]
    _train_all(names, arguments.epochs, Clock(arguments.minutes))


def _train_all(names: list[str], epochs: int | None, clock: Clock) -> None:
    """Networks of one data set share its images; one that exists is only tested, once."""
    images: dict[str, tuple[networks.Images, networks.Images]] = {}
    for name in names:
        exists = networks.path(name).exists()
        if exists and name in results():
            continue
        if clock.over:
            print(f"{name} and what follows it are left for another run")
            return
        kind = name.partition("_")[0]
        if kind not in images:
            images[kind] = networks.train_and_test(name)
        print(name, flush=True)
        if exists:
            model = networks.load(name)
            source = "trained here" if networks.path(name).parent == TRAINED else "reference"
            found = {"source": source, "accuracy": accuracy(model, images[kind][1])}
            record(name, found | {"hidden_nodes": check_nodes(name, model)})
        else:
            record(name, train(name, epochs or _EPOCHS[kind], images[kind]))


if __name__ == "__main__":
    main()
