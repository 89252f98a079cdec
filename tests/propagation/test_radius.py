"""The radius search returns only radii that were evaluated and certified, whatever the margins do."""

from collections.abc import Callable

import numpy as np
import pytest

from tfcert.propagation.radius import RadiusSearch, largest_radius


class Recorder:
    """A margin function that remembers what it was asked and what it said."""

    def __init__(self, margin: Callable[[np.ndarray, np.ndarray], np.ndarray]):
        self.margin = margin
        self.seen: dict[int, dict[float, float]] = {}
        self.evaluations = 0

    def __call__(self, index: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert np.all(np.isfinite(eps)) and np.all(eps >= 0)
        found = np.asarray(self.margin(index, eps), np.float64)
        self.evaluations += len(index)
        for i, e, m in zip(index, eps, found, strict=True):
            self.seen.setdefault(int(i), {})[float(e)] = float(m)
        return found, np.zeros(len(found))


def search(margin, start, **options) -> tuple[RadiusSearch, Recorder]:
    """Runs a search and checks what must hold of every search."""
    recorder = Recorder(margin)
    start = np.asarray(start, float)
    found = largest_radius(recorder, start, **options)
    upper = options.get("upper", np.inf)
    for i, (radius, value) in enumerate(zip(found.radius, found.margin, strict=True)):
        assert 0 <= radius <= upper
        if radius > 0:
            assert recorder.seen[i][radius] == value
            assert np.isfinite(value) and value > 0
            better = [e for e, m in recorder.seen[i].items() if np.isfinite(m) and m > 0 and e > radius]
            assert not better
        assert found.refuted[i] > radius
        if np.isfinite(found.refuted[i]):
            seen = recorder.seen[i][found.refuted[i]]
            assert not (np.isfinite(seen) and seen > 0)
    positive = max(1, int((start > 0).sum()))
    assert found.evaluations == int(np.ceil(recorder.evaluations / positive))
    return found, recorder


ROOTS = np.array([1e-4, 0.003, 0.1, 1.0, 40.0])


@pytest.mark.parametrize("shape", ["linear", "convex", "concave", "kinked"])
@pytest.mark.parametrize("slope", [True, False])
def test_a_smooth_margin_is_solved_to_the_tolerance_in_few_evaluations(shape, slope):
    margin = {
        "linear": lambda r: 1 - r,
        "convex": lambda r: 1 - np.sqrt(r),
        "concave": lambda r: 1 - r**3,
        "kinked": lambda r: np.where(r < 0.7, 1 - 0.2 * r, 0.86 - 2.866667 * (r - 0.7)),
    }[shape]
    options = {"slope": 1 / ROOTS, "guesses": 0.4 * ROOTS} if slope and shape == "linear" else {}
    found, _recorder = search(lambda i, e: margin(e / ROOTS[i]), np.ones(5), **options)
    np.testing.assert_allclose(found.radius, ROOTS, rtol=3e-4)
    assert np.all(found.refuted <= found.radius * (1 + 2e-4))
    assert found.evaluations <= (12 if options else 45)


def test_a_margin_that_never_falls_is_certified_up_to_the_upper_end():
    found, _recorder = search(lambda i, e: np.ones(len(e)), np.ones(3), upper=2.5)
    np.testing.assert_array_equal(found.radius, 2.5)
    assert np.all(np.isinf(found.refuted))


def test_a_margin_that_never_falls_and_has_no_upper_end_terminates():
    found, _recorder = search(lambda i, e: np.ones(len(e)), np.ones(2))
    assert np.all(found.radius > 0) and np.all(np.isfinite(found.radius))


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan, np.inf, -np.inf])
def test_nothing_is_certified_where_the_margin_is_never_finite_and_positive(bad):
    found, _recorder = search(lambda i, e: np.full(len(e), bad), np.ones(3))
    np.testing.assert_array_equal(found.radius, 0)
    np.testing.assert_array_equal(found.margin, 1)


@pytest.mark.parametrize("start", [0.0, -1.0, np.nan, -np.inf])
def test_a_sample_without_a_positive_margin_at_the_centre_is_never_evaluated(start):
    found, recorder = search(lambda i, e: np.ones(len(e)), [1.0, start], upper=1.0)
    assert found.radius[1] == 0
    assert 1 not in recorder.seen


def test_a_margin_that_jumps_rises_and_breaks_never_yields_an_uncertified_radius():
    rng = np.random.default_rng(0)
    for trial in range(60):
        cuts = np.sort(rng.uniform(0, 1, 6))
        signs = rng.choice([1.0, -1.0, np.nan, 0.0, np.inf, 1e-30], 7)
        signs[0] = 1.0
        scale = 10.0 ** rng.uniform(-4, 2)

        def margin(index, eps, cuts=cuts, signs=signs, scale=scale):
            return signs[np.searchsorted(cuts, eps / scale)] * (1 + 0.1 * np.sin(30 * eps / scale))

        options = {"upper": scale} if trial % 2 else {}
        if trial % 3 == 0:
            options |= {
                "slope": rng.choice([0, 1.0, np.inf, np.nan], 4),
                "guesses": rng.choice([0, scale, -1.0], 4),
            }
        search(margin, np.full(4, 0.5), **options)


def test_a_radius_certified_beyond_a_gap_is_found_by_the_probes():
    def margin(index, eps):
        return np.where((eps < 1.0) | ((eps > 1.015) & (eps < 1.03)), 1e-3, -1e-3)

    found, _ = search(margin, [1e-3])
    assert found.radius[0] > 1.015


@pytest.mark.parametrize("power", [1.9, 2.7])
@pytest.mark.parametrize("share", [0.2, 3.0])
def test_a_margin_like_those_of_crown_takes_six_evaluations(power, share):
    """Two on the way to the root, two about it, and two that stand for the probes or are them."""
    rest = 1 - np.array([0.05, 0.3, 0.6])  # the part of the fall to 0 that is not first order
    found, _ = search(
        lambda i, e: 1 - (1 - rest[i]) * e - rest[i] * e**power,
        np.ones(3),
        slope=1 - rest,
        guesses=np.full(3, share),
    )
    np.testing.assert_allclose(found.radius, 1, rtol=1e-4)
    assert found.evaluations <= 6


def test_a_radius_that_was_tried_near_a_probe_stands_for_it():
    found, recorder = search(lambda i, e: 1 - e, np.ones(1), guesses=np.array([1.025]))
    assert found.radius[0] == pytest.approx(1, rel=1e-4)
    assert sum(1.01 < e < 1.05 for e in recorder.seen[0]) == 1


def test_what_failed_beyond_a_probe_that_succeeds_is_the_refuted_radius():
    """The guess fails at 1.2, then the bracket closes on 1, beyond which there is an island up to 1.05."""
    found, _ = search(
        lambda i, e: np.where((e < 1) | ((e > 1.002) & (e < 1.05)), 2 - e, -0.1), np.ones(1), guesses=[1.2]
    )
    assert 1.002 < found.radius[0] < 1.05 and np.isfinite(found.refuted[0])


def test_samples_do_not_influence_each_other():
    roots = np.array([0.01, 0.5, 3.0])
    together, _ = search(lambda i, e: np.cos(e / roots[i]), np.ones(3))
    for k in range(3):
        alone, _ = search(lambda i, e, k=k: np.cos(e / roots[k]), np.ones(1))
        assert alone.radius[0] == together.radius[k]


def test_no_samples_are_no_work():
    found, recorder = search(lambda i, e: np.ones(len(e)), np.zeros(0))
    assert found.radius.shape == (0,)
    assert recorder.evaluations == 0


def test_the_radius_of_a_tiny_margin_is_not_lost():
    found, _ = search(lambda i, e: 1e-9 - e, [1e-9], guesses=np.array([4e-10]), slope=np.array([1.0]))
    assert found.radius[0] == pytest.approx(1e-9, rel=1e-3)


def test_an_absolute_tolerance_is_met_and_spares_evaluations():
    roots = np.array([0.3, 3.0])
    tight, _ = search(lambda i, e: roots[i] - e, roots, tolerance=1e-6)
    wide, _ = search(lambda i, e: roots[i] - e, roots, tolerance=0.0, absolute=0.01)
    assert (wide.radius > 0).all() and (wide.refuted - wide.radius <= 0.01).all()
    assert wide.evaluations <= tight.evaluations


def test_without_time_for_another_pass_what_is_known_is_the_answer():
    """The second pass is not begun: what the first certified stays, and nothing more is claimed."""
    passes = []

    def margin_at(index, eps):
        if passes:
            raise TimeoutError
        passes.append(index)
        return 1.0 - eps, np.zeros(len(eps))

    found = largest_radius(margin_at, np.ones(2), guesses=np.array([0.5, 2.0]))
    assert found.radius.tolist() == [0.5, 0.0] and found.refuted.tolist() == [np.inf, 2.0]
