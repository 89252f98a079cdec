"""Agrify: Zhu, Wang, Wan, Zhang 2021."""

from __future__ import annotations

from typing import Any

from benchmarks.complete import tables
from benchmarks.complete.peer import PEERS
from benchmarks.complete.tasks import ADVERSARIAL, ROBUST, SKIPPED
from benchmarks.papers import runs
from benchmarks.papers.line import Line, Open, Paper
from benchmarks.papers.records import found, load, note, span, stored

HOUR = 3600.0
GUIDED, PLAIN = "FNN1 minimum guided crown cbc", "FNN1 minimum plain interval cbc"
TOOLS = "benchmarks/complete/tables.py"
COMPLETE = 100
"""Images of the paper's tables."""


def ask(*words: str, options: str = "") -> str:
    """The command that asks the rows whose name has one of these words."""
    said = " ".join(f'"{word}"' if " " in word else word for word in words)
    return f"benchmarks.complete.run --only {said} {options}".strip()


def _verified(name: str, *hows: str) -> str:
    """What rows of a network say: ``split`` and ``milp`` with its solver."""
    solver = "highs" if name == "FNN4" else "cbc"
    return "; ".join(
        found(lambda h=how: runs.verdicts(f"{name} verify {h} {solver}") for how in hows or ("split", "milp"))
    )


def _robust(name: str) -> str:
    """The images that `split` proves robust."""
    answers = runs.row(f"{name} verify split cbc")
    numbers = [int(i) for i, answer in answers.items() if answer["outcome"] == ROBUST]
    return f"robust are images {', '.join(map(str, sorted(numbers)))}"


def _asked(name: str) -> bool:
    """Whether `split` was asked about every image of the paper's table."""
    solver = "highs" if name == "FNN4" else "cbc"
    return stored(lambda: runs.row(f"{name} verify split {solver}")) and (
        len(runs.row(f"{name} verify split {solver}")) >= COMPLETE
    )


def _hard() -> str:
    """FNN4's images that bounds and attacks leave to branch and bound, and the one that takes longest."""
    answers = runs.row("FNN4 verify split highs")
    left = {i: a["seconds"] for i, a in answers.items() if a.get("by") == "split"}
    if not left:
        return "no image needs branch and bound so far"
    longest = max(left, key=lambda i: left[i])
    unknown = [i for i, a in runs.row("FNN4 verify milp highs").items() if a["outcome"] == "unknown"]
    return (
        f"{len(left)} images need branch and bound, of whose {sum(left.values()):.0f} s image {longest} takes "
        f"{left[longest]:.0f}; `milp` leaves {', '.join(sorted(unknown, key=int))} open"
    )


def _times(other: str) -> str:
    """How many times longer the paper's other tool takes than Agrify, as the tables print it."""
    ratios = [rows[other][1] / rows["Agrify"][1] for rows in tables.PAPER.values()]
    return span(ratios)


def _minima() -> str:
    guided, plain = runs.row(GUIDED), runs.row(PLAIN)
    proven = [sum(bool(a.get("optimal")) for a in rows.values()) for rows in (guided, plain)]
    return (
        f"the direction reproduces: on the first {len(plain)} images of FNN1 guided proves {proven[0]} minima and "
        f"plain with intervals {proven[1]}, within {runs.limit(PLAIN):.0f} s each"
    )


def _agree() -> str:
    both = [
        (a["upper"], b["upper"])
        for a, b in ((runs.row(GUIDED).get(i, {}), b) for i, b in runs.row(PLAIN).items())
        if a.get("optimal") and b.get("optimal")
    ]
    apart = max((abs(a - b) / b for a, b in both), default=0.0)
    return f"both proved their minimum on {len(both)} image, and differ by {apart:.0e} of it"


def _impossible() -> int:
    """Answers of all rows that cannot both be right."""
    note(runs.AGRIFY, "every pair of rows")
    return len(tables.problems(load(runs.AGRIFY)))


def _beside(peer: str) -> str:
    pairs = [p for p in runs.peers("FNN1").values() if peer in p and p["tfcert"]["outcome"] != SKIPPED]
    outcomes = [(p[peer]["outcome"], p["tfcert"]["outcome"]) for p in pairs]
    same, against = (sum(set(pair) == both for pair in outcomes) for both in ({ADVERSARIAL}, {ADVERSARIAL, ROBUST}))
    return f"{peer} on {len(pairs)} images of FNN1, {same} of them adversarial to both, {against} verdicts contradict"


def _whole(images: dict[str, Any]) -> bool:
    """Whether every peer was asked about a hundred images."""
    return sum(PEERS.keys() <= answers.keys() for answers in images.values()) >= COMPLETE


def _table(networks: tuple[str, ...]) -> str:
    """The paper's tables I and IV: the rows of some networks."""
    lines = tables.results_table(load(runs.AGRIFY)).splitlines()
    return "\n".join(lines[:2] + [line for line in lines[2:] if line.split("|")[1].strip() in networks])


HOLDS = """
Attack-guided verification by integer programs. What holds for every line:

- **Two networks of six are at hand.** FNN1 and FNN4 are the reference's, so their counts are targets. FNN2 and FNN3
  have the paper's layers and weights trained here; FNN5 and FNN6 are trained and asked once Fashion-MNIST is in
  `TFCERT_DATA`.
- **The solver is not the paper's.** Branch and bound of our own (stage `split`, two threads), or CBC or HiGHS (stage
  `milp`, one thread), instead of Gurobi on 32 cores: seconds are compared within one run, not with the printed ones.
- **All targets, strictly.** The paper asks about the runner-up class only; here every class is meant, and only a
  point that the network itself gets strictly wrong counts. Rows, seconds and the figure are in
  `benchmarks/complete/README.md`.
- **Bounds.** The paper's symbolic interval propagation (ReluVal's, of ReLU alone) is `bounds="symbolic"`, and
  `guided symbolic` its row. It is looser than CROWN, which rows take unless they say otherwise; every row, and every
  result of `minimum_perturbation`, names its bounds and its attack.
- **Gurobi** is `solver="gurobi"`, through python-mip, where its library and a licence are. The size-limited licence
  that comes with the package gurobipy does not do: the library answers "PIP license can only be used from gurobipy
  interface", so no row with Gurobi could be asked here.
"""

SOLVERS = """
**Trust in solvers.** CBC with its own cuts and preprocessing was seen to answer `OPTIMAL` with a distance at which a
strictly misclassified point lies nearer, and without them too: its tolerances are absolute, and the objective, a
distance, is small. So objectives are scaled before a solver sees them (then CBC with and without cuts and HiGHS
agree), `cbc` here is CBC without cuts and preprocessing, and the guided search decides whether a set holds a witness,
by its worst margin, and closes in on the distance from there. A proof by an integer program still has the guarantee
`solver` (believed, not proven), and `confirm=` asks a second solver. The stage `split` believes none: its bounds are
our own, and of a linear program it takes the dual prices only, from which the bound is computed anew. Bounds that a
witness refutes, points outside the set, and answers after a crash or a hang give `unknown` with its reason, never a
verdict (`tests/complete/test_lying_solvers.py`).
"""

LINES = [
    Line(
        where="algorithm 1",
        claim="PGD's distance bounds the least perturbation, so bounds and program may be confined to it",
        measured="reproduces, for the minimum over all targets. It does not hold for one target with a witness of "
        "another: the "
        'runner-up\'s minimum may lie beyond, and "infeasible" would then be called robust',
        command="pytest tests/complete/test_minimum.py",
    ),
    Line(
        where="algorithm 1, infeasible",
        claim="infeasible means robust",
        measured="not inside a witness's distance, where the witness is feasible: there it is the solver's error. "
        "Here a proof is a "
        'positive lower bound of the margin, never the word "infeasible"',
        command="pytest tests/complete/test_lying_solvers.py",
    ),
    Line(
        where="section III-B",
        claim="(no rule when PGD finds nothing)",
        measured="a gap: there is no radius to confine to. Here the search falls back to the whole radius",
        command="pytest tests/complete/test_minimum.py",
    ),
    Line(
        where="section III-B, radius",
        claim="eps-hat is taken from the attack's example",
        measured="it must be rounded up, in the objective's own norm, and the example replayed: a distance rounded "
        "down cuts off the witness",
        command="pytest tests/benchmarks/test_agrify.py",
    ),
    Line(
        where="section III-C, figure 2",
        claim="worked example",
        printed="n4 in [-9, -1], n5 in [3, 11], n6 in [-1, 3]",
        measured="reproduces with n5 = -2 v1 + v2 + v3. The text prints 2 v2, whose interval is [2, 12]",
        command="pytest tests/complete/test_encoding.py -k figure_2",
    ),
    Line(
        where="sections III-B, III-C",
        claim="the example's input is x = -2 in one and x = -3 in the other (y = 0, z = 3)",
        measured="the intervals [-3, -1], [-1, 1] and [2, 4] belong to -2; -3 is a misprint",
    ),
    Line(
        where="section III-C, bounds",
        claim="symbolic interval propagation bounds the neurons",
        measured='reproduces: `bounds="symbolic"` equals ReluVal\'s equations in rational arithmetic, and is nowhere '
        "looser than intervals",
        command="pytest tests/propagation/test_symbolic.py",
    ),
    Line(
        where="conclusion, attacks",
        claim="other attacks could guide the search",
        measured="C&W, elastic net, fast minimum norm and PGD down the cross-entropy do (`guide=`), to the same minima",
        command="pytest tests/complete/test_guides.py",
    ),
    Line(
        where="section III-D",
        claim="the target is the runner-up class",
        measured="a gap: robust against the runner-up is not robust. Asked for one class (`targets=runner_up`), a "
        "specification leaves the sample unknown and says which class is not reached",
        command="pytest tests/driver/test_guided.py",
    ),
    Line(
        where="section III-D, objective",
        claim="the objective, min (eps1 + eps2 + eps3), is the perturbation",
        measured="that sum is L1 at best (without absolute values not even that), while the text and Figure 3 speak "
        "of L-infinity. Here the objective is the norm that is asked for, L-infinity, L1 or L2",
        command="pytest tests/complete/test_minimum.py",
    ),
    Line(
        where="section III-E",
        claim="complete",
        measured="up to tolerances: solvers return points on the boundary, which the network gets right, or ties. "
        "Every witness is "
        "rounded to the model's dtype, moved into the set and replayed; what is left between is unknown, with its "
        "reason",
        command="pytest tests/complete",
    ),
    Line(
        where="table II",
        claim="FNN1 to FNN6; FNN4 was trained with a semidefinite relaxation (Raghunathan et al.)",
        measured="the layouts are in `tfcert.zoo`; FNN4's weights are the reference's, its way of training is not in "
        "tfcert",
        command="pytest tests/zoo",
    ),
    Line(
        where="table I, FNN1",
        claim="FNN1",
        printed="99 asked: 96 adversarial, 3 robust; 203 s",
        measured=lambda: f"reproduces: {_verified('FNN1')}; {_robust('FNN1')}",
        note="Proofs of `split` are `numeric`, those of `milp` the solver's word.",
        command=ask("FNN1 verify", options="--time-limit 300"),
    ),
    Line(
        where="table I, FNN4",
        claim="FNN4",
        printed="98 asked: 4 adversarial, 94 robust; 1,028 s",
        measured=lambda: f"reproduces: {_verified('FNN4')}; {_hard()}",
        command=ask("FNN4 verify", options="--time-limit 900"),
    ),
    Line(
        where="table I, FNN2",
        claim="FNN2",
        printed="99 asked: 87 adversarial, 12 robust; 566 s",
        measured=lambda: f"no target: weights trained here. {_verified('FNN2')}",
        command=ask("FNN2 verify", options="--time-limit 900"),
    ),
    Line(
        where="table I, FNN3",
        claim="FNN3",
        printed="99 asked: 83 adversarial, 15 robust, 1 unknown; 24,731 s",
        measured=lambda: f"no target: weights trained here. So far {_verified('FNN3')}",
        note="A minute an image, on a busy machine; what is open has some 700 neurons that may switch.",
        command=ask("FNN3 verify split", options="--time-limit 60"),
        open=[
            Open(
                "the open images with an hour each, the paper's limit",
                ask("FNN3 verify split", options="--time-limit 3600"),
                55 * HOUR,
                lambda: runs.verdicts("FNN3 verify split cbc"),
                lambda: (
                    stored(lambda: runs.limit("FNN3 verify split cbc")) and runs.limit("FNN3 verify split cbc") >= HOUR
                ),
            )
        ],
    ),
    Line(
        where="abstract",
        claim="faster than other tools",
        printed="up to 69 times",
        measured="not in the paper's own tables, where the most is 35.5 (FNN4, against MIPVerify; 35.4 against "
        "Venus), and where Venus is 4 to 8 times *faster* than Agrify on FNN1, FNN2 and FNN3",
    ),
    Line(
        where="table I, MIPVerify",
        claim="faster than MIPVerify",
        printed="2.8 to 35.5 times",
        measured=lambda: _minima(),
        note="A factor is only a lower bound where plain was stopped.",
        command=ask("FNN1 minimum", options="--time-limit 60"),
        open=[
            Open(
                "plain and progressive rows (MIPVerify's own configuration) on 100 images",
                ask("FNN1 minimum", options="--time-limit 60"),
                10 * HOUR,
                lambda: f"{len(runs.row(PLAIN))} images, plain with intervals",
                lambda: all(
                    stored(lambda k=k: runs.row(k)) and len(runs.row(k)) >= COMPLETE
                    for k in (PLAIN, "FNN1 minimum plain progressive cbc")
                ),
            ),
        ],
    ),
    Line(
        where="table I, Neurify and Venus",
        claim="faster than Neurify; beside Venus",
        measured=lambda: (
            "neither was run (neither is a package). Marabou 2.0.0 and NeuralSAT 0.2.17 are asked instead, each answer "
            f"replayed: {_beside('marabou')}; {_beside('neuralsat')}"
        ),
        command=ask("marabou", options="--time-limit 30"),
        open=[
            Open(
                "Marabou and NeuralSAT on 100 images of FNN1 and FNN2",
                ask("marabou", options="--time-limit 30"),
                1.5 * HOUR,
                lambda: f"{len(runs.peers('FNN1'))} images of FNN1",
                lambda: all(stored(lambda n=n: runs.peers(n)) and _whole(runs.peers(n)) for n in ("FNN1", "FNN2")),
            )
        ],
    ),
    Line(
        where="figure 3",
        claim="distances of Agrify and MIPVerify nearly coincide and are minimal",
        measured=lambda: (
            "every pair of rows is compared: a witness nearer than what another row proved is reported as impossible, "
            f"{_impossible()} were so far; {_agree()}"
        ),
        command=ask("FNN1 minimum", options="--time-limit 60"),
    ),
    Line(
        where="figure 3, others",
        claim="Neurify and Venus return witnesses at the full radius",
        measured=lambda: f'so does any question that only asks "robust?": {_at_the_radius()}',
        command=ask("marabou", options="--time-limit 30"),
    ),
    Line(
        where="table III",
        claim='Venus returned "not really adversarial" examples',
        measured="the same happens to any solver's raw point: Marabou's first points mostly tie and do not replay, so "
        "it is asked again for one clearly beyond, and each of its points is replayed",
        command="pytest tests/benchmarks/test_agrify.py",
    ),
    Line(
        where="table IV",
        claim="FNN5, FNN6 on Fashion-MNIST",
        printed="87 asked: 85 + 2 + 0 and 86 + 0 + 0",
        measured=lambda: (
            "no target: weights trained here. "
            + "; ".join(found(lambda n=n: f"{n}: {_verified(n)}" for n in ("FNN5", "FNN6")))
        ),
        note="The printed counts of FNN6 do not add up.",
        command=ask("FNN5 verify", "FNN6 verify", options="--time-limit 60"),
        open=[
            Open(
                "FNN5 and FNN6",
                ask("FNN5 verify", "FNN6 verify", options="--time-limit 60"),
                1.7 * HOUR,
                "Fashion-MNIST is not here: put `fashion_mnist.npz` into `TFCERT_DATA`; on generated images the rows "
                "run",
                lambda: _asked("FNN5") and _asked("FNN6"),
            )
        ],
    ),
    Line(
        where="conclusion",
        claim='"basically no difference" between the tools\' adversarial examples',
        measured="not by their distances: see Figure 3",
    ),
]


def _at_the_radius() -> str:
    """How many witnesses of tfcert and of its peers lie at the radius, to a percent."""
    pairs = [p for p in runs.peers("FNN1").values() if p["tfcert"]["outcome"] != SKIPPED]
    said = []
    for side in ("tfcert", *PEERS):
        distances = [p[side]["distance"] for p in pairs if side in p and "distance" in p[side]]
        said.append(
            f"{sum(d > 0.99 * tables.EPS for d in distances)} of {len(distances)} witnesses of {side} lie there"
        )
    return " and ".join(said)


PAPER = Paper(
    title="Agrify",
    source="Zhu, Wang, Wan, Zhang 2021",
    holds=HOLDS,
    lines=LINES,
    after=lambda: SOLVERS,
    tables={
        "I": lambda: _table(("network", "FNN1", "FNN2", "FNN3", "FNN4")),
        "IV": lambda: _table(("network", "FNN5", "FNN6")),
    },
)
