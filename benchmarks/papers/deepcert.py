"""DeepCert: Wu, Zhang, AAAI 2021."""

from __future__ import annotations

from statistics import median

import numpy as np

from benchmarks.common import store
from benchmarks.papers import radii, runs
from benchmarks.papers.cnn_cert_figures import CIFAR5, CNN4, CNN8, CURVES, HOUR, curved
from benchmarks.papers.line import Line, Open, Paper
from benchmarks.papers.records import found, joined, load, note, span, stored
from benchmarks.radius import tables
from benchmarks.radius.searches import NORMS

CNN4S, CNN8S, CIFARS = (curved(name.removesuffix("_relu")) for name in (CNN4, CNN8, CIFAR5))
LENET5 = curved("mnist_lenet5_avg")
RESNETS = tuple(name for blocks in (3, 4, 5) for name in curved(f"mnist_resnet_{blocks}"))
ALL = (*CNN4S, *CNN8S, *CIFARS, *LENET5)
RADII = "pytest tests/propagation/test_radius.py"


def _by_activation(better: str, base: str, networks: tuple[str, ...]) -> str:
    """The span over norms of each activation's gains."""
    said = found(lambda n=n: f"{n.rpartition('_')[2]} {span_of(better, base, n)}" for n in networks)
    return ", ".join(said)


def span_of(better: str, base: str, *networks: str) -> str:
    """The least and the most gain over networks and norms."""
    return span(found(lambda n=n, m=m: radii.gain(better, base, n, m) for n in networks for m in NORMS), "{:+.1f}", "%")


def _norms(networks: tuple[str, ...]) -> str:
    """Gains in L-inf, L2 and L1 of each of some networks."""
    return "; ".join(
        found(lambda n=n: f"{radii.gains('deepcert', 'cnncert', n)} ({n.rpartition('_')[2]})" for n in networks)
    )


def _searches(better: str, base: str) -> list[float]:
    """Processor seconds of one relaxation's searches over another's."""
    pairs = radii.each_pair(better, base)
    return found(lambda n=n, m=m: radii.cpu(n, m, better) / radii.cpu(n, m, base) for n, m in pairs)


def _fewer() -> str:
    pairs = [(n, m) for n, m in radii.each_pair("deepcert", "cnncert")]
    counts = [[radii.entry(n, m, name)["evaluations"] for name in ("deepcert", "cnncert")] for n, m in pairs]
    return f"{sum(new < old for new, old in counts)} of {len(counts)}"


def _same_time() -> str:
    def most(family: str, norm: str) -> float:
        some = [radii.cpu(f"{family}_{name}", norm, "deepcert") for name in CURVES]
        return max(some) / min(some)

    families = [name.removesuffix("_sigmoid") for name in (CNN4S[0], CNN8S[0], CIFARS[0], LENET5[0])]
    return span(found(lambda f=f, m=m: most(f, m) for f in families for m in NORMS), "{:.2f}")


def _at_or_above() -> str:
    """On how many of the images searched DeepCert's radius is at or above CNN-Cert's."""
    above = total = 0
    for network, norm in radii.each_pair("deepcert", "cnncert"):
        new, old = (radii.search(network, norm, name).radii for name in ("deepcert", "cnncert"))
        above += sum(new[image] >= old[image] for image in old)
        total += len(old)
    return f"{above} of {total}"


def _largest_norm() -> str:
    """Networks whose gain is largest in L-inf."""
    cases = [n for n in ALL if stored(lambda n=n: [radii.gain("deepcert", "cnncert", n, m) for m in NORMS])]
    by_norm = {n: [radii.gain("deepcert", "cnncert", n, m) for m in NORMS] for n in cases}
    most = [n for n, values in by_norm.items() if values[0] == max(values)]
    least = [n for n, values in by_norm.items() if values[0] == min(values)]
    return (
        f"on {len(most)} of {len(cases)} networks ({', '.join(_short(n) for n in most)}) it is, on {len(least)} L-inf "
        f"gains least ({', '.join(_short(n) for n in least)})"
    )


def _short(network: str) -> str:
    return (
        network.removeprefix("mnist_")
        .removesuffix("_5_3")
        .replace("_5_3_", " ")
        .replace("_avg_", " ")
        .replace("_", " ")
    )


def _below_deepcert() -> str:
    """Where `adaptive` is below `deepcert` on average, and by how much."""
    gains = {(n, m): radii.gain("adaptive", "deepcert", n, m) for n, m in radii.each_pair("adaptive", "deepcert")}
    least_and_most = span(gains.values(), "{:+.1f}", "%")
    below = sorted({_short(network) for (network, _), value in gains.items() if value < _EQUAL})
    count = sum(value < _EQUAL for value in gains.values())
    where = f" ({', '.join(below)})" if below else ""
    return f"on {count} of {len(gains)} networks and norms it is below{where}; over all {least_and_most}"


def _slopes() -> str:
    """The gain of `adaptive` over `deepcert` by rule, at the stored radii of the latter."""
    rows = load("radius/slopes")["searches"]
    for key in rows:
        note("radius/slopes", key)
    rules = ("adaptive", "parallel around zero", "parallel wherever possible")
    now, around, parallel = (
        span([100 * float(np.mean(row["gains"][rule])) for row in rows.values()], "{:+.2f}", "%") for rule in rules
    )
    lost = sum(
        np.mean(row["gains"]["parallel around zero"]) < np.mean(row["gains"]["adaptive"]) for row in rows.values()
    )
    return (
        f"the lines differ where DeepCert's are parallel: with the line of least area there `adaptive` comes to {now} "
        f"over `deepcert` on {len(rows)} networks and norms, with parallel lines around zero to {around} (less than "
        f"with least area on {lost} of them), with parallel lines wherever both can be to {parallel}"
    )


_EQUAL = -0.05
"""Percent: so near, two relaxations are called equal."""


def _frown() -> str:
    said = found(lambda n=n: f"{radii.gains('deepcert', 'frown', n)} ({_short(n)})" for n in (*CNN4S, *CNN8S))
    return "; ".join(said)


def _table(name: str) -> str:
    printed = tables.printed()
    results = tables.Results(load(radii.RADII))
    rows = (
        tables.deepcert(results, printed["deepcert_1"]) if name == "1" else tables.frown(results, printed["deepcert_2"])
    )
    return store.markdown(rows) if rows else "(not measured yet)"


LINES = [
    Line(
        where="text, cases 1 to 3",
        claim="three cases by the slopes at the ends and the chord's",
        measured="reproduces, with tangent points to full precision; where an equality holds (float32 tanh where it "
        "is flat) none of the strict cases applies, and the constants f(l), f(u) are taken",
        command="pytest tests/soundness/test_activations.py",
    ),
    Line(
        where="figures 2 and 3",
        claim="in cases 1b and 2b tighter than CNN-Cert and CROWN",
        measured=lambda: (
            "reproduces for one neuron; for a network a tighter line need not be the better one, but `deepcert` is at "
            f"or above `cnncert` on {_at_or_above()} images searched"
        ),
        command=radii.run(*CNN4S),
    ),
    Line(
        where="text, constant time",
        claim="the approximation takes constant time",
        measured=lambda: (
            f"reproduces: a search takes {span(_searches('deepcert', 'cnncert'), '{:.2f}')} times the processor "
            "seconds of CNN-Cert's lines"
        ),
        command=radii.run(*CNN4S),
    ),
    Line(
        where="algorithm 1",
        claim="returns a certified bound",
        measured="not as printed: `eps_cert` is moved to the next candidate before it is compared and returned, so "
        "what is returned "
        "was never evaluated, and may lie up to the search's tolerance above what was certified. Here only certified "
        "radii are returned",
        command=RADII,
    ),
    Line(
        where="algorithm 1, targets",
        claim="untargeted, though the text says targeted",
        measured='the records are of one target, and so are the tables here; `targets="all"` is the untargeted one',
        command="pytest tests/certification",
    ),
    Line(
        where="benchmarks",
        claim="hidden nodes",
        printed="8680, 14570, 14680",
        measured=lambda: f"reproduce: {joined(runs.hidden_nodes(CNN4S[0], CNN8S[0], CIFARS[0]), '{:.0f}')}",
        note="The second of the printed counts includes the ten logits, the other two do not.",
        command=radii.run(CNN4S[0], CNN8S[0], CIFARS[0])[0],
    ),
    Line(
        where="table 1",
        claim="more than CNN-Cert on almost all networks; 4 layers",
        printed=radii.printed_gains("deepcert", "cnncert", *CNN4S),
        measured=lambda: (
            "the direction reproduces on all, the size is less: "
            f"{span_of('deepcert', 'cnncert', *CNN4S)} for sigmoid, tanh and arctan in all norms"
        ),
        note="The authors' programs give the same on these weights (`tests/reference/test_radii.py`).",
        command=radii.run(*CNN4S),
    ),
    Line(
        where="table 1, 8 layers",
        claim="8 layers gain more than 4",
        printed=radii.printed_gains("deepcert", "cnncert", *CNN8S),
        measured=lambda: f"more layers gain more, less than is printed: {_by_activation('deepcert', 'cnncert', CNN8S)}",
        command=radii.run(*CNN8S),
    ),
    Line(
        where="table 1, CIFAR",
        claim="CIFAR, 5 layers",
        printed=radii.printed_gains("deepcert", "cnncert", *CIFARS),
        measured=lambda: f"reproduces: {span_of('deepcert', 'cnncert', *CIFARS)}",
        command=radii.run(*CIFARS),
    ),
    Line(
        where="table 1, LeNet-5",
        claim="LeNet-5 with average pooling",
        printed="+0.5 to +3%",
        measured=lambda: (
            "**not a target** (pooling after S-shaped activations); with average pooling as the linear map: "
            f"{_norms(LENET5)}"
        ),
        command=radii.run(*LENET5),
        open=[
            Open(
                "arctan in L2 and L1",
                radii.run(LENET5[2]),
                600.0,
                "arctan in L-inf",
                lambda: radii.all_done([LENET5[2]], ["cnncert", "deepcert"]),
            )
        ],
    ),
    Line(
        where="table 1, ResNets",
        claim="ResNet-3, 4, 5: the largest gains of the paper",
        printed=radii.printed_gains("deepcert", "cnncert", *RESNETS),
        measured=lambda: f"**not a target**: unsound. Soundly: {_norms(RESNETS)}",
        command=radii.run(*RESNETS),
        open=[
            Open(
                "sound radii of ResNet-3, 4 and 5 with sigmoid, tanh and arctan",
                radii.run(*RESNETS),
                4 * HOUR,
                "ResNet-3 with ReLU",
                lambda: radii.all_done(RESNETS, ["cnncert", "deepcert"]),
            )
        ],
    ),
    Line(
        where="table 1, norms",
        claim="the gain is largest for L-inf",
        measured=lambda: f"not in general: {_largest_norm()}",
        note="Nor does the paper's own table bear it out (4 layers, sigmoid: L-inf is printed with the least).",
        command=radii.run(*CNN4S, *CNN8S, *CIFARS),
    ),
    Line(
        where="table 1, times",
        claim="slightly faster than CNN-Cert",
        printed="up to 1.2 times",
        measured=lambda: (
            "reproduces, for a reason of the search's: its processor seconds are "
            f"{span([1 / x for x in _searches('deepcert', 'cnncert')], '{:.2f}')} times DeepCert's (median "
            f"{median([1 / x for x in _searches('deepcert', 'cnncert')]):.2f}), because {_fewer()} of DeepCert's "
            "searches take fewer evaluations"
        ),
        command=radii.run(*CNN4S, *CNN8S, *CIFARS),
    ),
    Line(
        where="text, equal times",
        claim="the same time for all activations",
        measured=lambda: (
            f"for each network and norm the slowest activation takes {_same_time()} times as long as the fastest"
        ),
        command=radii.run(*CNN4S, *CNN8S, *CIFARS),
    ),
    Line(
        where="table 1, deviations",
        claim="standard deviations",
        measured="printed columns repeat mean radii in several rows (8 layers); nothing to reproduce there",
    ),
    Line(
        where="table 2",
        claim="more than CROWN",
        printed="+10 to +151% (4 layers), +20 to +286% (8)",
        measured=lambda: (
            f"the direction reproduces, the size does not: {span_of('deepcert', 'crown', *CNN4S)} with 4 layers and "
            f"{span_of('deepcert', 'crown', *CNN8S)} with 8 (sigmoid alone {span_of('deepcert', 'crown', CNN8S[0])}, "
            "the nearest to what is printed)"
        ),
        note="The paper's CROWN radii with tanh are half of CNN-Cert's on the same network; that program was not "
        "among the records.",
        command=radii.run(*CNN4S, *CNN8S),
    ),
    Line(
        where="table 2, FROWN",
        claim="more than FROWN",
        printed="up to +253%",
        measured=lambda: f"DeepCert over `frown`: {_frown()}",
        note="FROWN optimises the same lines, so it must not be worse than its start "
        "(`tests/propagation/test_optimised.py`).",
        command=radii.run(*CNN4S),
        open=[
            Open(
                "4 layers", radii.run(*CNN4S), 3 * HOUR, "single margins", lambda: radii.all_done(CNN4S[:2], ["frown"])
            ),
            Open("8 layers", radii.run(*CNN8S), 20 * HOUR, "4 layers", lambda: radii.all_done(CNN8S[:2], ["frown"])),
        ],
    ),
    Line(
        where="table 2, FROWN, 8 layers",
        claim="FROWN is better on 8-layer sigmoid",
        measured=lambda: f"DeepCert over `frown`: {radii.gains('deepcert', 'frown', CNN8S[0])}",
        command=radii.run(CNN8S[0]),
        open=[
            Open(
                "8-layer sigmoid",
                radii.run(CNN8S[0]),
                10 * HOUR,
                "4 layers",
                lambda: radii.all_done(CNN8S[:1], ["frown"]),
            )
        ],
    ),
    Line(
        where="table 2, times",
        claim="faster than FROWN",
        printed="1567 times",
        measured=lambda: (
            f"{span(_searches('frown', 'deepcert'), '{:.0f}')} times the processor seconds of DeepCert's search"
        ),
        note="FROWN here is one vectorised ascent over all neurons.",
        command=radii.run(*CNN4S),
        open=[
            Open(
                "seconds of `frown`",
                radii.run(*CNN4S),
                3 * HOUR,
                "single margins",
                lambda: stored(lambda: _searches("frown", "deepcert")),
            )
        ],
    ),
    Line(
        where="table 2, CROWN's times",
        claim="CROWN is faster than DeepCert",
        printed="up to 5 times",
        measured=lambda: (
            "does not reproduce: both are lines of the same program, and a search with CROWN's takes "
            f"{span(_searches('crown', 'deepcert'))} times as long, for its evaluations are more"
        ),
        command=radii.run(*CNN4S, *CNN8S),
    ),
    Line(
        where="table 2, misprint",
        claim="8 layers, arctan, L-inf",
        printed="0.076",
        measured="a misprint: it repeats the L2 value, and table 1 has another",
    ),
    Line(
        where="here",
        claim="`adaptive`, the default, is at or above `deepcert` (not the paper's claim: ours)",
        measured=lambda: f"{_below_deepcert()}. The reason: {_slopes()}",
        note="So no choice of these lines is best everywhere, and `adaptive` keeps the least area.",
        command=("benchmarks.radius.slopes", *radii.run(*CNN4S, *CNN8S, *CIFARS)),
    ),
]

PAPER = Paper(
    title="DeepCert",
    source="Wu, Zhang, AAAI 2021",
    holds="What holds for every line of CNN-Cert holds here.",
    lines=LINES,
    tables={table: lambda table=table: _table(table) for table in ("1", "2")},
)
