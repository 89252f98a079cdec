"""Nothing that is proven for the deployed program is wrong in any program that runs the network.

Every network of ``deceiving.py`` is made as hard as can be: its label's output is moved until a method just proves it.
Then it is run at many points of its set: by Keras alone and in batches, compiled, with units permuted, in processes
with other threads and kernels, and by simulated programs. One answer that is not the proven one fails the test. A pair
is a network and one way to run it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from rigour.deceiving import BUILDERS, Case, linear, margins
from rigour.deploying import Run, deployed, elsewhere
from rigour.proving import METHODS, bound, searched, tightened, tightened_by_splitting, within_its_radius
from rigour.simulated import drawn, simulated
from sweeps import sweep_but

import tfcert
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions

pytestmark = pytest.mark.usefixtures("eager")
FAMILIES = tuple(BUILDERS)
NEVER = ("overflowing", "denormal")
"""Whose sums may overflow: nothing is proven of them, wherever the output is moved."""
CURVED = ("saturated", "attention", "recurrent")
SEEDS, PROGRAMS = 8, 100
"""Of a sweep: networks of each family, and simulated programs for each."""


def method_of(name: str, turn: int) -> str:
    """The method whose turn it is with a family: some are for ReLU, or prove something of it alone."""
    methods = tuple(m for m in METHODS if m not in ("symbolic", "lp")) if name in CURVED else METHODS
    return methods[turn % len(methods)]


def programs(case: Case, count: int, whole: bool) -> Iterator[tuple[str, Run]]:
    """Keras's ways to run a model, and simulated programs."""
    yield from deployed(case.model, whole)
    network = network_of(case.model, case.ball.x)
    for seed in range(count):
        yield repr(drawn(seed)), simulated(network, drawn(seed))


def check(case: Case, points: np.ndarray, count: int, whole: bool = False) -> int:
    """Runs the network at points in so many simulated programs and in Keras's ways; returns how many there were."""
    pairs = 0
    for name, run in programs(case, count, whole):
        assert (margins(run(points)) > 0).all(), f"{case.name}: wrong as run {name}"
        pairs += 1
    return pairs


@pytest.mark.parametrize("place", sweep_but(range(len(FAMILIES) - 1), range(len(FAMILIES))), ids=FAMILIES)
def test_what_is_just_proven_is_right_in_every_program(place):
    """Some hundreds of pairs: a network of each family, the methods in turn, 20 ways at least to run each."""
    name, method = FAMILIES[place], method_of(FAMILIES[place], place + 4)
    case = BUILDERS[name](0)
    if tightened(case, method):
        assert check(case, case.points(), 18) >= 20
    else:
        assert name in NEVER


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_what_is_just_proven_is_right_in_every_program_of_many(name, seed, record_property):
    """Above 10,000 pairs: 8 networks of 19 families, 103 ways at least to run each; a report has their number."""
    method = method_of(name, seed + FAMILIES.index(name))
    case = BUILDERS[name](seed)
    pairs = check(case, case.points(), PROGRAMS, whole=seed % 4 == 0) if tightened(case, method) else 0
    record_property("pairs", pairs)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["ordinary", "backdoored"])
@pytest.mark.parametrize("seed", range(6))
def test_what_branch_and_bound_just_proves_is_right_in_every_program(name, seed):
    case = BUILDERS[name](seed)
    assert tightened_by_splitting(case)
    check(case, np.concatenate([case.points(), searched(case, 16)]), 12)


def test_a_large_margin_is_proven_by_every_method():
    case = BUILDERS["ordinary"](0)
    assert [method for method in METHODS if bound(case, method)[1]] == list(METHODS)


@pytest.mark.parametrize("name", ["linear", "folded", "one_ulp", "absorption", "images"])
@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 12))])
def test_no_point_of_a_proven_radius_is_answered_otherwise(name, method, seed):
    case = within_its_radius(BUILDERS[name](seed), method)
    if case is not None:
        check(case, np.concatenate([case.points(), searched(case, 16)]), 8 if seed == 0 else 30)


@pytest.mark.sweep
@pytest.mark.parametrize("bias", [1.0, 100.0])
@pytest.mark.parametrize("seed", range(8))
def test_no_search_near_the_edge_of_a_proven_radius_finds_another_answer(bias, seed):
    """Jia and Rinard 2021: hundreds of points whose margin is within rounding, if there are any."""
    case = within_its_radius(linear(bias, seed), "crown")
    assert case is not None
    check(case, searched(case, 200), 8, whole=True)


@pytest.mark.sweep
def test_no_setting_of_the_process_changes_what_is_proven(tmp_path):
    """One thread and two, other kernels, other instructions."""
    cases = [case for name in FAMILIES if tightened(case := BUILDERS[name](0), "crown")]
    points = [case.points() for case in cases]
    found = elsewhere([case.model for case in cases], points, tmp_path)
    for setting, outputs in found.items():
        for case, output in zip(cases, outputs, strict=True):
            assert (margins(output) > 0).all(), f"{case.name}: wrong with {setting}"


def test_a_radius_ends_where_rounding_may_matter_and_not_far_before():
    """With all neurons active CROWN's bounds are exact but for rounding: nearly all of the exact radius is proven."""
    for bias, share in ((1.0, 0.995), (100.0, 0.9)):
        exact = linear(bias)
        found = within_its_radius(exact, "crown")
        assert found is not None
        assert share * exact.ball.eps[0] < found.ball.eps[0] < exact.ball.eps[0]


@pytest.mark.parametrize("name", ["absorption", "folded"])
def test_bounds_that_leave_rounding_out_are_fooled_or_close_to_it(name):
    """What the tests above could catch is there: with rounding left out, positive margins and wrong answers meet."""
    wrong = 0
    for seed in range(5):
        case = BUILDERS[name](seed)
        ball = case.ball
        options = BoundOptions(rounding="ignore")
        bounds = tfcert.certify(case.model, ball.x, np.array([1]), eps=ball.eps, clip=ball.clip, options=options)
        points = case.points()
        answers = [margins(run(points)) for _, run in programs(case, 6, whole=False)]
        wrong += bool(bounds.margin[0] > 0 and (np.array(answers) <= 0).any())
    assert wrong
