"""Constrained IBP: Morawiecki, Spurek, Smieja, Tabor 2020."""

from __future__ import annotations

from benchmarks.papers import runs
from benchmarks.papers.line import Line, Open, Paper
from benchmarks.papers.records import NotStored, at, found, joined, load, stored
from benchmarks.training import tables

HOUR = 3600.0
SHORT, FAST, CIFAR, MNIST = "mnist-short", "mnist-fast-ramp", "cifar-small", "mnist-small"
METHODS = "ibp", "unelided", "mean", "sum", "log"
SEEDS = "--seeds 0 1 2"
EPOCH = {"mnist": 20.0, "cifar": 40.0}
"""Seconds of an epoch of the small network on two cores, about: from the stored runs."""


def train(experiment: str, options: str = "") -> str:
    """The command that trains what of an experiment is missing."""
    return f"benchmarks.training.run {experiment} {options}".strip()


def _ends(experiment: str, objective: str, key: str = "verified") -> str:
    return joined(runs.errors(runs.seeds(experiment, objective), key), "{:.1f}", "%")


def _short() -> str:
    """What a short ramp ends at, seed by seed, by every method that is stored."""
    said = []
    for name in METHODS:
        if stored(lambda name=name: runs.seeds(SHORT, name)):
            some = runs.seeds(SHORT, name)
            constant = [sum(v == 1 for v in r["history"]["constant"]) for r in some]
            tail = f" ({joined(constant, '{:.0f}')} epochs as a constant)" if any(constant) else ""
            said.append(f"{tables.METHODS[name].title} {_ends(SHORT, name)}{tail}")
    if not said:
        raise NotStored(SHORT)
    return "; ".join(said)


def _short_is_whole() -> bool:
    return all(stored(lambda n=n: runs.seeds(SHORT, n)) and len(runs.seeds(SHORT, n)) >= 3 for n in METHODS)


def _weights_are_swept() -> bool:
    known = runs.trainings(SHORT, "log") if stored(lambda: runs.trainings(SHORT, "log")) else []
    return len({r["run"]["weight"] for r in known}) > 2


def _mean_of_both(experiment: str, name: str) -> float:
    """Of test and verified error at the end, in percent."""
    result = runs.trained(experiment, name)
    return sum(runs.errors([result], key)[0] for key in ("accuracy", "verified")) / 2


def _epochs(experiment: str, objective: str = "ibp") -> str:
    return f"{runs.trained(experiment, objective)['run']['epochs']:.0f}"


def _at_the_ramps_end(objective: str, before: int) -> str:
    """What is verified of the test images so many epochs before eps has grown, seed by seed."""
    said = []
    for result in runs.seeds(FAST, objective):
        last = round(result["run"]["warm_up"] + result["run"]["ramp"]) - 1
        said.append(100 - at(runs.curve(result), last - before))
    return joined(said, "{:.1f}", "%")


def _never() -> int:
    """Constrained trainings that never verify half of the images."""
    return sum(min(runs.curve(result)) > 50 for result in runs.seeds(FAST, "mean"))


def _ahead() -> str:
    """By how many points constrained IBP's verified error is below IBP's, at most and at the end."""
    ibp, constrained = (runs.curve(runs.trained(CIFAR, name)) for name in ("ibp", "mean"))
    apart = [a - b for a, b in zip(ibp, constrained, strict=False)]
    best = max(range(len(apart)), key=lambda i: apart[i])
    run = runs.trained(CIFAR, "ibp")["run"]
    return (
        f"at most {apart[best]:.0f} points, after epoch {best + 1} of {len(apart)} ({ibp[best]:.0f} against "
        f"{constrained[best]:.0f}%), while eps grows (until epoch {run['warm_up'] + run['ramp']:.0f}); at the end "
        f"{ibp[-1]:.1f} and {constrained[-1]:.1f}%"
    )


def _ends_of(experiment: str, objective: str) -> str:
    """Test, verified and PGD error at the end."""
    result = runs.trained(experiment, objective)
    errors = [100 * (1 - result[key]) for key in ("accuracy", "verified", "attacked")]
    return f"{tables.METHODS[objective].title} {joined(errors, '{:.1f}', '%')}"


def _widths(experiment: str, epoch: int = -1) -> str:
    """Mean squared widths of hidden layers after an epoch, of IBP and constrained IBP."""
    rows = [runs.trained(experiment, name)["history"] for name in ("ibp", "mean")]
    if any("interval_width" not in row for row in rows):
        raise NotStored(f"widths of {experiment}")
    return joined([at(row["interval_width"], epoch) for row in rows], "{:.2g}")


def _step(jit: bool) -> str:
    return joined([runs.step(batch, "IBP", jit=jit) for batch in (100, 256)], "{:.1f}")


HOLDS = """
Interval bound propagation with the widths of the intervals as a further term of the loss. What holds for every line:

- **Time is what is short.** The paper trains for 100 to 350 epochs on GPUs; here two CPU cores had minutes. Curves are
  compared epoch by epoch on schedules that are named in each line, and final errors of the full schedules are no
  targets. Every full schedule is there: `python -m benchmarks.training.run --list`.
- **The formula and the figures differ.** The formula adds squared widths over all layers, logits included, with weight
  1, and does not say how a batch is reduced; the figures speak of mean squared widths of hidden layers. On a network of
  thousands of neurons the two differ by orders of magnitude. `IntervalWidth` offers both, and a third form, the mean
  over layers of logarithms, log(1 + mean squared width), which is the default here because the other two turn a
  network into a constant where eps grows fast (first line of section 4.2 below). Where nothing else is said,
  *constrained IBP* has means over all layers with weight 1, and logits that are bounded without elision.
"""

LINES = [
    Line(
        where="section 3.3",
        claim="the width of all intervals is added to the loss",
        measured="as the formula and as the figures have it, by options; both equal a hand computation",
        command="pytest tests/training/test_losses.py",
    ),
    Line(
        where="section 3.3, other methods",
        claim="the term can be incorporated in other methods, those of convex optimisation too",
        measured="`IntervalWidth` is a regulariser that goes with every objective, with `DualLP` too, which trains by "
        "Wong and Kolter's dual network",
        command=("pytest tests/training/test_losses.py", "pytest tests/training/test_dual.py"),
    ),
    Line(
        where="section 4.2, a short ramp",
        claim="the term stabilises training where eps grows fast",
        measured=lambda: f"verified error by seed: {_short()}",
        note="A recipe of our own: MNIST small, the first 10,000 images, eps 0.4, a ramp of 600 steps. The formula and "
        "means turn the network into a constant in the first epoch of the ramp "
        "(`benchmarks/training/README.md` shows how); logarithms of widths train.",
        command=train(SHORT, f"--objectives {' '.join(METHODS)} {SEEDS} --attacked 0"),
        open=[
            Open(
                "the other seeds",
                train(SHORT, f"--objectives {' '.join(METHODS)} {SEEDS} --attacked 0"),
                15 * 60.0,
                lambda: "the seeds of this line",
                _short_is_whole,
            ),
            Open(
                "the weight of the term",
                train(SHORT, "--objectives log --weights 0.1 0.3 1 3 --attacked 0"),
                4 * 60.0,
                "weight 1",
                _weights_are_swept,
            ),
        ],
    ),
    Line(
        where="section 4.2, figure 5",
        claim="MNIST, small, eps 0.4, eps growing 2.5 times faster: IBP does not converge, constrained IBP does",
        measured=lambda: (
            "**does not reproduce** with means over layers: IBP converges with every seed (verified error "
            f"{_ends(FAST, 'ibp')} after {_epochs(FAST)} epochs), without elision too ({_ends(FAST, 'unelided')}), "
            f"and constrained IBP with weight 1 ends higher ({_ends(FAST, 'mean')})"
        ),
        note="Adam at 1e-3, batches of 100, 2,000 plain steps and a ramp of 4,000. The paper prints neither its "
        "initialisation nor how a batch is reduced.",
        command=train(FAST, f"--epochs 14 {SEEDS} --objectives ibp mean unelided"),
    ),
    Line(
        where="section 4.2, figure 5, early",
        claim="the verified error falls earlier with constrained IBP",
        measured=lambda: (
            "two seeds of three show a trace of it: verified an epoch before eps has grown "
            f"{_at_the_ramps_end('mean', 1)} (IBP {_at_the_ramps_end('ibp', 1)}), an epoch later "
            f"{_at_the_ramps_end('mean', 0)} (IBP {_at_the_ramps_end('ibp', 0)}), seed by seed; of the "
            "constrained "
            f"runs {_never()} never verifies half of the images"
        ),
        command=train(FAST, f"--epochs 14 {SEEDS} --objectives ibp mean unelided"),
    ),
    Line(
        where="section 4.1, figure 3",
        claim="CIFAR-10, small, eps 8/255: the verified error falls much faster; after 100 epochs it is over 20 "
        "points lower",
        measured=lambda: (
            f"**does not reproduce at the end**: constrained IBP is ahead by {_ahead()}; the mean of test and verified "
            f"error at the end is {_mean_of_both(CIFAR, 'ibp'):.1f} and {_mean_of_both(CIFAR, 'mean'):.1f}%"
        ),
        note="One seed, every phase of the paper's schedule in proportion.",
        command=train(CIFAR, "--epochs 24 --objectives ibp mean"),
        open=[
            Open(
                "the full schedule of 350 epochs",
                train(CIFAR),
                700 * EPOCH["cifar"],
                lambda: f"{_epochs(CIFAR)} epochs",
                lambda: stored(lambda: _epochs(CIFAR)) and int(_epochs(CIFAR)) >= 350,
            )
        ],
    ),
    Line(
        where="table 2, CIFAR-10 small",
        claim="nominal, IBP and constrained IBP",
        printed="test error 20.1, 39.3, 47.2%; verified error 100, 63.6, 60.1%",
        measured=lambda: (
            f"after {_epochs(CIFAR)} epochs instead of 350, test error, verified error and PGD error: "
            + "; ".join(found(lambda n=name: _ends_of(CIFAR, n) for name in ("nominal", "ibp", "mean")))
        ),
        note="The price in test error shows, the gain in verified error does not.",
        command=train(CIFAR, "--epochs 24 --objectives ibp mean nominal"),
    ),
    Line(
        where="section 4.1, figure 3, SVHN",
        claim="SVHN, small: over 20 points lower after 50 epochs",
        open=[
            Open(
                "SVHN",
                train("svhn-small", "--epochs 24"),
                48 * EPOCH["cifar"],
                "the data set is not here: put its `.mat` files into `TFCERT_DATA`",
            )
        ],
    ),
    Line(
        where="table 2, medium and large; section 4.2, figure 4",
        claim="CIFAR-10, large, eps 4/255: IBP is stuck for 100 epochs",
        open=[
            Open("medium and large networks", train("cifar-medium cifar-large"), 30 * 86400.0, "the small network"),
            Open(
                "figure 4",
                "benchmarks.training.run --figure 4",
                30 * 86400.0,
                "the small network at eps 8/255",
                lambda: stored(lambda: runs.trained("cifar-large-4", "ibp")),
            ),
        ],
    ),
    Line(
        where="section 4.3, figure 6",
        claim="CIFAR-10: squared widths of hidden layers fall faster, and are a few orders of magnitude lower",
        measured=lambda: (
            f"reproduces: mean squared widths {_widths(CIFAR)} at the end and {_widths(CIFAR, 4)} after five epochs "
            "(IBP "
            "and constrained IBP)"
        ),
        note="See the figure in `benchmarks/training/README.md`.",
        command=train(CIFAR, "--epochs 24 --objectives ibp mean"),
    ),
    Line(
        where="section 4.3, figure 7",
        claim="MNIST: with the fast ramp IBP cannot keep widths low",
        measured=lambda: f"mean squared widths at the end: {_widths(FAST)} (IBP and constrained IBP)",
        command=train(FAST, f"--epochs 15 {SEEDS} --objectives ibp mean log"),
        open=[
            Open(
                "the widths on the fast ramp",
                train(FAST, f"--epochs 15 {SEEDS} --objectives ibp mean log"),
                90 * EPOCH["mnist"],
                "none on record",
                lambda: stored(lambda: _widths(FAST)),
            )
        ],
    ),
    Line(
        where="table 2, MNIST small",
        claim="verified error at eps 0.4: IBP, constrained IBP",
        printed="20.74%, 21.31%",
        open=[
            Open(
                "100 epochs of the paper's schedule",
                train(MNIST),
                200 * EPOCH["mnist"],
                lambda: f"the fast ramp, {_epochs(FAST)} epochs",
                lambda: stored(lambda: runs.trained(MNIST, "mean")),
            )
        ],
    ),
    Line(
        where="section 3.1",
        claim="bounds cost two passes of the network",
        measured=lambda: (
            f"with XLA a step of IBP costs {_step(True)} times a plain step of the same network (batches of 100 and "
            f"256), without XLA {_step(False)}"
        ),
        note="Medians of three epochs, and they scatter.",
        command="benchmarks.training.steps",
    ),
]


def _table() -> str:
    """Every stored training, in the columns of the paper's table 2."""
    return tables.table(tables.STORE.read("train_constrained"))


def _in_minutes() -> str:
    """What intervals verify of MNIST's test images after trainings of some minutes."""
    try:
        found = [
            f"{100 * r['verified']:.1f}% at eps {r['run']['eps']:.1f} after {r['total_seconds'] / 60:.0f} minutes"
            for r in load("training/train_mnist")
        ]
    except NotStored:
        return ""
    return (
        "What is trained here in minutes, on two cores (beside other work): the small network of Gowal et al. verifies "
        f"{', '.join(found)} of MNIST's test images (`python -m benchmarks.training.mnist`, table `train-mnist`)."
    )


PAPER = Paper(
    title="Constrained IBP",
    source="Morawiecki, Spurek, Smieja, Tabor 2020",
    holds=HOLDS,
    lines=LINES,
    after=_in_minutes,
    tables={"2": _table},
)
