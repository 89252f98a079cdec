"""IBP beside constrained IBP, epoch by epoch: the claims of Morawiecki et al. 2020.

python -m benchmarks.training.run --list                   the experiments, and the paper's figures that they are of
python -m benchmarks.training.run mnist-short              one, what of it has no result yet; then table and figures
python -m benchmarks.training.run cifar-small --epochs 12  a schedule of fewer epochs, all of it in proportion
python -m benchmarks.training.run cifar-small --seeds 0 1 --objectives ibp mean sum
python -m benchmarks.training.run mnist-short --objectives log --weights 0.01 0.1 1      the weight of the term
python -m benchmarks.training.run --figure 5 --epochs 14   what a figure of the paper needs, and the figure
python -m benchmarks.training.run cifar-small --minutes 60 begins no training after an hour; the next run goes on
python -m benchmarks.training.run --table                  only writes tables and figures

Objectives: ``ibp``; ``unelided``, IBP of the logits themselves; ``log``, constrained IBP as the product has it by
default; ``sum``, the paper's formula (section 3.3); ``mean``, means instead of sums, as its figures speak of;
``nominal``. Schedules are those of Gowal et al. 2018 (which the paper takes over), in optimizer steps: plain training,
then eps from 0 and kappa from 1 to 0.5 in a ramp; Adam, its rate divided by 10 at each drop; Keras's initialisation.
``mnist-short`` is a recipe of our own: 10,000 images and a ramp of 600 steps, where the paper's fast one has 4,000.
After each epoch the first 1,000 test images are verified by intervals; at the end all are, and PGD (200 steps, 10
restarts, as in the paper) attacks the first ``--attacked`` ones. Full schedules take hours to days on a GPU, so every
experiment can be shortened. SVHN is read from its public files (``train_32x32.mat``, ``test_32x32.mat``) in the folder
that ``TFCERT_DATA`` names.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from typing import Any

import tensorflow as tf

from benchmarks.common import machine, store
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.training import certified
from benchmarks.training.tables import FIGURES, METHODS, method_of, report
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
        images: how many of the training images; None for all.
    """

    data: str
    size: str
    eps: float
    epochs: int
    batch: int
    warm_up: int
    ramp: int
    drops: tuple[int, ...]
    images: int | None = None

    def run(self, method: str, seed: int, epochs: int | None, images: int) -> certified.Run:
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
            self.size, self.eps, count, seed, **METHODS[method].options, warm_up=share * self.warm_up / each,
            ramp=share * self.ramp / each, initialize=False, batch=self.batch, drops=tuple(d for d in drops if d < 1),
            divisor=10.0, augment=pictures, normalize=pictures, images=self.images,
        )  # fmt: skip


def _experiment(data: str, size: str) -> Experiment:
    recipe = RECIPES["cifar10" if data == "cifar" else data]
    steps = recipe.batch, recipe.plain, recipe.ramp, recipe.drops
    return Experiment(data, size, recipe.eps, recipe.epochs, *steps)


EXPERIMENTS = {
    "mnist-short": Experiment("mnist", "small", 0.4, 12, 100, 200, 600, (), images=10_000),
    "mnist-fast-ramp": replace(_experiment("mnist", "small"), ramp=4_000),
    **{f"{data}-{size}": _experiment(data, size) for data in ("mnist", "cifar", "svhn") for size in SIZES},
    "cifar-large-4": replace(_experiment("cifar", "large"), eps=4 / 255),
}
"""``mnist-fast-ramp`` is figure 5: eps grows 2.5 times faster; ``cifar-large-4`` figure 4, at eps 4/255. SVHN's 240
epochs are as many steps as CIFAR's 350."""


def read() -> list[dict[str, Any]]:
    """The stored results."""
    return STORE.read("train_constrained", [])


def _key(name: str, run: dict[str, Any]) -> tuple[Any, ...]:
    weight = run["weight"] if run["objective"] == "constrained" else None
    return name, method_of(run), run["seed"], run["epochs"], weight


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(description="IBP beside constrained IBP.")
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT")
    parser.add_argument("--figure", type=int, choices=list(FIGURES), help="what this figure of the paper needs")
    parser.add_argument("--epochs", type=int, help="instead of the full schedule's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--objectives", nargs="+", choices=list(METHODS), default=["ibp", "log"])
    parser.add_argument("--weights", nargs="+", type=float, help="of the width term (default: the product's)")
    parser.add_argument("--attacked", type=int, default=100, help="test images that PGD attacks (default: 100)")
    add_minutes(parser)
    parser.add_argument("--list", action="store_true", help="only print the experiments")
    parser.add_argument("--table", action="store_true", help="only write tables and figures")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name}: {experiment}" for name, experiment in EXPERIMENTS.items()))
        print("\n".join(f"figure {n}: {', '.join(f.experiments)} ({f.title})" for n, f in FIGURES.items()))
        return
    names = [*arguments.experiments, *(FIGURES[arguments.figure].experiments if arguments.figure else ())]
    unknown = set(names) - set(EXPERIMENTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; --list shows the experiments")
    if not arguments.table:
        machine.limit_threads()
        tf.config.experimental.enable_op_determinism()
        clock = Clock(arguments.minutes)
        for name in names:
            _train(name, arguments, clock)
    if not read():
        parser.error("there are no results yet")
    report(read(), EXPERIMENTS)


def runs(name: str, arguments: argparse.Namespace, images: int) -> list[certified.Run]:
    """The runs that are asked for: every method with every seed, and those with a width term with every weight."""
    found = []
    for seed in arguments.seeds:
        for method in arguments.objectives:
            run = EXPERIMENTS[name].run(method, seed, arguments.epochs, images)
            weights = arguments.weights if arguments.weights and run.objective == "constrained" else [run.weight]
            found += [replace(run, weight=weight) for weight in weights]
    return found


def _train(name: str, arguments: argparse.Namespace, clock: Clock) -> None:
    experiment = EXPERIMENTS[name]
    images = certified.data(experiment.data, experiment.images)
    for run in runs(name, arguments, len(images.x)):
        if clock.over or _key(name, asdict(run)) in (_key(r["experiment"], r["run"]) for r in read()):
            continue
        model, result = certified.fitted(run, images, validation=_HELD_OUT)
        result |= {"experiment": name} | certified.judged(model.model, images, run.eps)
        if arguments.attacked:
            result["attacked"] = certified.attacked(model.model, images, run.eps, count=arguments.attacked, **_PGD)
        result |= {"attacked_images": arguments.attacked, "machine": machine.describe()}
        STORE.write("train_constrained", [*read(), result])
        verified = f"verified error {100 * (1 - result['verified']):.1f}%"
        print(f"{name}, seed {run.seed}, {METHODS[method_of(asdict(run))].title}: {verified}", flush=True)


if __name__ == "__main__":
    main()
