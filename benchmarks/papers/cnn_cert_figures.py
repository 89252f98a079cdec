"""CNN-Cert's networks, and the figures of its lines, from the stored records."""

from __future__ import annotations

import numpy as np

from benchmarks.common import store
from benchmarks.papers import radii, runs
from benchmarks.papers.records import found, joined, load, note, span, stored
from benchmarks.radius import tables
from benchmarks.radius.searches import NORMS

CNN4, CNN5, CNN8, CNN20 = (
    f"mnist_cnn_{name}_relu" for name in ("4layer_5_3", "5layer_5_3", "8layer_5_3", "4layer_20_3")
)
CIFAR5, CIFAR7, CIFAR10 = (f"cifar_cnn_{name}_relu" for name in ("5layer_5_3", "7layer_5_3", "5layer_10_3"))
NORMAL, LENET, NO_POOL = "mnist_cnn_4layer_5_3_bn_relu", "mnist_lenet_relu", "mnist_lenet_nopool_relu"
SEVEN, SEVEN_SMALL = "mnist_cnn_7layer_relu", "mnist_cnn_7layer_small_relu"
TINY = "tinyimagenet_cnn_7layer_relu"
RESNETS = tuple(f"mnist_resnet_{n}_relu" for n in (2, 3, 4))
MLPS, WIDE_MLP = ("mnist_2layer_fc_20_relu", "mnist_3layer_fc_20_relu"), "mnist_4layer_fc_100_relu"
CONVOLUTIONAL = (CNN4, CNN5, NORMAL, LENET, NO_POOL, *RESNETS[:2])
"""The networks of the comparators that are no MLPs."""
CURVES = ("sigmoid", "tanh", "arctan")
RADII = "pytest tests/reference/test_radii.py"
SEARCHES = "`benchmarks.radius.run`"
HOUR = 3600.0


def curved(family: str) -> tuple[str, ...]:
    """A family's networks with each S-shaped activation."""
    return tuple(f"{family}_{name}" for name in CURVES)


def pooled() -> str:
    """Radii with each part of the planes of max pooling over those of the authors' program."""
    rows = load("radius/pooled")["radii"]
    for key in rows:
        note("radius/pooled", key)

    def over_theirs(variant: str) -> str:
        return span([(np.array(row[variant]) / row["theirs"]).mean() for row in rows.values()], "{:.2f}")

    return (
        f"Over their program's radii on LeNet and 7 layers ours come to {over_theirs('upper plane only')} times with "
        f"the upper plane alone (and the default lower line), {over_theirs('both planes')} with both (`cnncert`) and "
        f"{over_theirs('no intervals')} with both and no intervals"
    )


def pooled_curves() -> str:
    """What is added of LeNet with max pooling and curves; nothing where its radii are not of the planes of now."""
    cases = [n for n in curved("mnist_lenet") if stored(lambda n=n: [radii.search(n, m, "cnncert") for m in NORMS])]
    return f", {radii.gains('cnncert', 'crown', *cases)} on LeNet with max pooling" if cases else ""


def evaluations() -> list[int]:
    return [radii.entry(*one)["evaluations"] for one in radii.every()]


def over(first: tuple[str, str], second: tuple[str, str], form: str = "{:.1f}") -> str:
    return span(found(lambda m=norm: radii.ratio(m, first, second) for norm in NORMS), form)


def activation(family: str, name: str, norms: tuple[str, ...] = NORMS) -> str:
    pair = (f"{family}_{name}", "cnncert"), (f"{family}_relu", "cnncert")
    return joined(found(lambda m=norm: radii.ratio(m, *pair) for norm in norms))


def time(relaxation: str) -> str:
    pairs = [
        (f"{family}_{name}", f"{family}_relu", norm)
        for family in ("mnist_cnn_4layer_5_3", "mnist_cnn_8layer_5_3", "cifar_cnn_5layer_5_3")
        for name in CURVES
        for norm in NORMS
    ]
    return span(
        found(lambda c=c, r=r, m=m: radii.cpu(c, m, relaxation) / radii.cpu(r, m, relaxation) for c, r, m in pairs)
    )


def hundred() -> str:
    """Mean radii of a hundred images over those of ten."""

    def ratio(network: str, norm: str, relaxation: str) -> float:
        few, many = (radii.search(network, norm, relaxation, images).mean for images in (10, 100))
        return many / few

    some = found(lambda one=one: ratio(*one) for one in radii.every())
    return f"the mean radius of a hundred is {span(some, '{:.2f}')} times that of ten, over {len(some)} searches"


def clever(beyond: str) -> int:
    """By image, how often CLEVER lies below the certified radius, or beyond the attack's distance."""
    count = 0
    for case in radii.compared_cases():
        found = radii.compared(*case)["radii"]
        other = found["certified" if beyond == "below" else "attack"]
        pairs = [(c, o) for c, o in zip(found["clever"], other, strict=True) if None not in (c, o)]
        count += sum(c < o if beyond == "below" else c > o for c, o in pairs)
    return count


def images() -> int:
    return sum(len(radii.compared(*case)["radii"]["clever"]) for case in radii.compared_cases())


def below_on_mlps() -> int:
    cases = [radii.compared(name, "l1")["radii"] for name in MLPS]
    return sum(c < r for case in cases for c, r in zip(case["clever"], case["certified"], strict=True))


def clever_time() -> list[float]:
    seconds = [radii.compared(*case)["seconds"] for case in radii.compared_cases()]
    return [each["clever"] / each["certified"] for each in seconds]


def grid(table: str) -> str:
    rows = tables.cnncert(tables.Results(load(radii.RADII)), tables.printed()["cnncert_3_to_8"])
    kept = [row for row in rows if table in row["table"].split(", ")]
    return store.markdown(kept) if kept else "(not measured yet)"


def curves() -> str:
    rows = tables.activations(tables.Results(load(radii.RADII)), tables.printed()["cnncert_7"])
    return store.markdown(rows) if rows else "(not measured yet)"


def more(before: str, named: dict[str, str], better: str = "cnncert") -> str:
    """The gains over Fast-Lin of those of some networks that are measured, behind a word; else nothing."""
    there = {word: name for word, name in named.items() if stored(lambda n=name: radii.gains(better, "fastlin", n))}
    said = [f"{radii.gains(better, 'fastlin', name)} on {word}" for word, name in there.items()]
    return before + ", ".join(said) if said else ""


def per_bound() -> list[float]:
    def bound(network: str, norm: str, relaxation: str) -> float:
        return radii.cpu(network, norm, relaxation) / radii.entry(network, norm, relaxation)["evaluations"]

    pairs = [(n, m) for n in curved("mnist_cnn_4layer_5_3") for m in NORMS]
    return found(lambda n=n, m=m: bound(n, m, "crown") / bound(n, m, "cnncert") for n, m in pairs)


def seconds(*networks: str) -> list[float]:
    some = found(lambda n=n, m=m: radii.search(n, m, "cnncert").seconds for n in networks for m in NORMS)
    return [each for each in some if each == each]


def resnet(network: str) -> str:
    return joined(found(lambda m=norm: radii.compared_mean(network, m, "certified") for norm in NORMS), "{:.4f}")


def of_printed(network: str) -> str:
    theirs = tables.printed()["cnncert_3_to_8"][network]["cnncert"]
    some = found(lambda m=norm: 100 * radii.compared_mean(network, m, "certified") / theirs[m] for norm in NORMS)
    return span(some, "{:.0f}", "%")


def linf(relaxation: str) -> str:
    some = found(lambda n=name: radii.search(n, "linf", relaxation).mean for name in curved("mnist_lenet"))
    return joined(some, "{:.3f}")


GROWTH = {
    "depth": ("m", "convolutions"),
    "width": ("n", "filters"),
    "image": ("r", "pixels"),
    "kernel": ("k", "pixels"),
}
"""What the paper calls the number that a sweep varies, and what it counts."""


def grows(sweep: str) -> str:
    """The exponents of a pass's seconds and of its multiplications, and over which sizes."""
    letter, unit = GROWTH[sweep]
    counted = runs.exponent(sweep, counted=True)
    if not stored(lambda: runs.exponent(sweep)):
        return f"multiplications as {letter}^{counted:.1f} from {runs.sizes(sweep, counted=True)} {unit}"
    seconds = runs.exponent(sweep)
    return f"{letter}^{seconds:.1f} from {runs.sizes(sweep)} {unit} ({letter}^{counted:.1f} counted)"
