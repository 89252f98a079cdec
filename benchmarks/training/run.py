"""IBP beside constrained IBP, epoch by epoch: the claims of Morawiecki et al. 2020.

python -m benchmarks.training.run --list                   the experiments
python -m benchmarks.training.run mnist-fast-ramp          one, what of it has no result yet; then table and figure
python -m benchmarks.training.run cifar-small --epochs 12  a schedule of fewer epochs, all of it in proportion
python -m benchmarks.training.run cifar-small --seeds 0 1 --objectives ibp constrained
python -m benchmarks.training.run cifar-small --minutes 60 begins no training after an hour; the next run goes on
python -m benchmarks.training.run --table                  only writes tables and figures

Schedules are those of Gowal et al. 2018 (which the paper takes over), in optimizer steps: plain training, then eps from
0 and kappa from 1 to 0.5 in a ramp; Adam, its rate divided by 10 at each drop; Keras's initialisation. After each epoch
the first 1,000 test images are verified by intervals; at the end all are, and PGD (200 steps, 10 restarts, as in the
paper) attacks the first ``--attacked`` ones. Full schedules take hours to days on a GPU, so every experiment can be
shortened.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from benchmarks.common import machine, store
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.training import certified
from benchmarks.training.tables import NAMES, report
from tfcert.zoo.constrained_ibp import RECIPES, SIZES

STORE = store.Store(__file__)
_HELD_OUT = 1000
_PGD = {"steps": 200, "restarts": 10}


@dataclass(frozen=True)
class Experiment:
    """A network, a radius and a schedule in steps.

    Attributes:
        data: ``mnist``, ``cifar`` or ``svhn``.
        size: of the network.
        eps: in [0, 1].
        epochs, batch, warm_up, ramp, drops: the full schedule; the last three in steps.
    """

    data: str
    size: str
    eps: float
    epochs: int
    batch: int
    warm_up: int
    ramp: int
    drops: tuple[int, ...]

    def run(self, objective: str, seed: int, epochs: int | None, images: int) -> certified.Run:
        """One run; with fewer epochs than the full schedule all of its phases are shorter in proportion.

        The fast ramp of MNIST stays what it is: it is the claim, and later epochs only show what came of it.
        """
        each = -(-images // self.batch)
        total = self.epochs * each
        kept = epochs is None or self.data == "mnist"
        count = epochs or self.epochs
        share = 1.0 if kept else count / self.epochs
        drops = tuple(d / total for d in self.drops) if not kept else tuple(d / (count * each) for d in self.drops)
        pictures = self.data != "mnist"
        return certified.Run(
            self.size, self.eps, count, seed, objective, warm_up=share * self.warm_up / each,
            ramp=share * self.ramp / each, initialize=False, batch=self.batch, drops=tuple(d for d in drops if d < 1),
            divisor=10.0, augment=pictures, normalize=pictures,
        )  # fmt: skip


def _experiment(data: str, size: str) -> Experiment:
    recipe = RECIPES["cifar10" if data == "cifar" else data]
    steps = recipe.batch, recipe.plain, recipe.ramp, recipe.drops
    return Experiment(data, size, recipe.eps, recipe.epochs, *steps)


EXPERIMENTS = {
    "mnist-fast-ramp": replace(_experiment("mnist", "small"), ramp=4_000),
    **{f"{data}-{size}": _experiment(data, size) for data in ("mnist", "cifar", "svhn") for size in SIZES},
}
"""``mnist-fast-ramp`` is figure 5: eps grows 2.5 times faster. SVHN's 240 epochs are as many steps as CIFAR's 350."""


def read() -> list[dict[str, Any]]:
    """The stored results."""
    return STORE.read("train_constrained", [])


def _key(result: dict[str, Any]) -> tuple[Any, ...]:
    return result["experiment"], result["run"]["objective"], result["run"]["seed"], result["run"]["epochs"]


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(description="IBP beside constrained IBP.")
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT")
    parser.add_argument("--epochs", type=int, help="instead of the full schedule's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--objectives", nargs="+", choices=list(NAMES), default=["ibp", "constrained"])
    parser.add_argument("--attacked", type=int, default=100, help="test images that PGD attacks (default: 100)")
    add_minutes(parser)
    parser.add_argument("--list", action="store_true", help="only print the experiments")
    parser.add_argument("--table", action="store_true", help="only write tables and figures")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name}: {experiment}" for name, experiment in EXPERIMENTS.items()))
        return
    unknown = set(arguments.experiments) - set(EXPERIMENTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; --list shows the experiments")
    if not arguments.table:
        machine.limit_threads()
        tf.config.experimental.enable_op_determinism()
        clock = Clock(arguments.minutes)
        for name in arguments.experiments:
            _train(name, arguments, clock)
    if not read():
        parser.error("there are no results yet")
    report(read(), EXPERIMENTS)


def _train(name: str, arguments: argparse.Namespace, clock: Clock) -> None:
    experiment = EXPERIMENTS[name]
    images = certified.data(experiment.data)
    for seed in arguments.seeds:
        for objective in arguments.objectives:
            run = experiment.run(objective, seed, arguments.epochs, len(images.x))
            if clock.over or (name, objective, seed, run.epochs) in map(_key, read()):
                continue
            model, result = certified.fitted(run, images, validation=_HELD_OUT)
            result |= {"experiment": name} | certified.judged(model.model, images, run.eps)
            result["attacked"] = certified.attacked(model.model, images, run.eps, count=arguments.attacked, **_PGD)
            result |= {"attacked_images": arguments.attacked, "machine": machine.describe()}
            STORE.write("train_constrained", [*read(), result])
            print(f"{name}, seed {seed}, {NAMES[objective]}: verified {100 * result['verified']:.1f}%", flush=True)


if __name__ == "__main__":
    main()
