"""Programs: rows, squares and tangents; bounds that no prices can make unsound."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from tfcert.complete.encoding.program import Program, ProgramBuilder, pack, unpack


def random_program(rng: np.random.Generator, variables: int = 5, rows: int = 4) -> tuple[Program, np.ndarray]:
    """A program of small integers, so that float64 is exact, and a point that satisfies it."""
    builder = ProgramBuilder()
    lower = rng.integers(-4, 3, variables)
    upper = lower + rng.integers(0, 6, variables)
    v = rng.integers(lower, upper + 1)
    columns = builder.variables(lower, upper)
    matrix = rng.integers(-3, 4, (rows, variables)) * (rng.random((rows, variables)) < 0.7)
    for r in range(rows):
        equal = bool(rng.random() < 0.3)
        slack = 0 if equal else rng.integers(0, 3)
        builder.rows([(columns, matrix[r : r + 1])], matrix[r : r + 1] @ v + slack, equal=equal)
    return builder.program((columns, rng.integers(-5, 6, variables)), float(rng.integers(-3, 4))), v


def dense(program: Program) -> np.ndarray:
    matrix = np.zeros((len(program.right), len(program.lower)))
    for row in range(len(matrix)):
        part = slice(program.starts[row], program.starts[row + 1])
        matrix[row, program.columns[part]] = program.values[part]
    return matrix


def optimum(program: Program) -> float:
    """The minimum of the linear relaxation by another route."""
    matrix, equal = dense(program), program.equal
    found = linprog(
        program.objective, matrix[~equal], program.right[~equal], matrix[equal], program.right[equal],
        np.stack([program.lower, program.upper], axis=1),
    )  # fmt: skip
    assert found.status == 0
    return float(found.fun + program.constant)


def test_terms_that_name_a_variable_twice_in_a_row_are_added():
    builder = ProgramBuilder()
    x = builder.variables(np.zeros(3), np.ones(3))
    builder.rows([(x[:2], 1.0), (x[:2], np.array([2.0, 5.0])), (x[1:], 4.0)], np.array([7.0, 8.0]))
    program = builder.program((np.array([0, 0, 2]), np.array([1.0, 2.0, 3.0])))
    assert np.array_equal(dense(program), [[3, 4, 0], [0, 6, 4]])
    assert np.array_equal(program.objective, [3, 0, 3])
    assert len(program.values) == 4


def test_entries_belong_to_the_rows_that_are_added_next():
    builder = ProgramBuilder()
    x = builder.variables(np.zeros(2), np.ones(2))
    builder.rows([(x, np.array([[1.0, 1.0]]))], np.array([5.0]))
    builder.entries(np.array([1, 0, 1]), x[[0, 1, 0]], np.array([2.0, 3.0, 4.0]))
    builder.rows([], np.array([6.0, 7.0]), equal=True)
    program = builder.program((x[:0], np.zeros(0)))
    assert np.array_equal(dense(program), [[1, 1], [0, 3], [6, 0]])
    assert np.array_equal(program.right, [5, 6, 7])
    assert np.array_equal(program.equal, [False, True, True])


def test_a_copy_of_a_builder_goes_its_own_way():
    builder = ProgramBuilder()
    x = builder.variables(np.zeros(2), np.ones(2))
    other = builder.copy()
    other.rows([(x[:1], 1.0)], np.array([0.5]))
    other.squares(x[:1], other.variables(np.zeros(1), np.ones(1)))
    program = builder.program((x, np.ones(2)))
    assert len(program.right) == 0 and len(program.lower) == 2 and len(program.squares) == 0
    assert len(other.program((x, np.ones(2))).squares) == 1


def test_products_are_those_of_the_dense_matrix_empty_rows_included(rng):
    for _ in range(20):
        program, _ = random_program(rng, variables=4, rows=6)
        v = rng.normal(size=4)
        assert np.allclose(program.products(v), dense(program) @ v, rtol=0, atol=1e-13)


def test_products_of_short_rows_keep_their_digits_after_long_ones():
    builder = ProgramBuilder()
    x = builder.variables(np.zeros(1000), np.ones(1000))
    builder.rows([(x, np.full((1, 1000), 1e12))], np.array([0.0]))
    builder.rows([(x[:1], 1e-3)], np.array([0.0]))
    assert builder.program((x, np.ones(1000))).products(np.full(1000, 0.1))[1] == 1e-3 * 0.1


def test_violation_is_the_largest_of_bounds_rows_and_squares():
    builder = ProgramBuilder()
    x = builder.variables(np.array([-1.0, 0.0]), np.array([1.0, 4.0]))
    builder.rows([(x, np.array([[1.0, 1.0]]))], np.array([3.0]))
    builder.rows([(x[:1], 1.0)], np.array([0.5]), equal=True)
    builder.squares(x[:1], x[1:])
    program = builder.program((x, np.ones(2)))
    assert program.violation(np.array([0.5, 0.25])) == 0.0
    assert program.violation(np.array([0.5, 0.0])) == 0.25  # the square
    assert program.violation(np.array([0.0, 0.0])) == 0.5  # the equation
    assert program.violation(np.array([0.5, 5.0])) == 2.5  # the row, more than the bound
    assert program.violation(np.array([-2.0, 4.0])) == 2.5  # the equation, more than the bound
    assert ProgramBuilder().program((np.zeros(0, int), np.zeros(0))).violation(np.zeros(0)) == 0.0


PRICES = st.one_of(st.floats(-10, 10), st.floats(), st.sampled_from([1e17, -1e17, 1e17 / 3, -1e17 / 3, 1e308, -1e308]))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(PRICES, min_size=4, max_size=4))
def test_no_prices_lift_the_dual_bound_above_a_feasible_point(seed, prices):
    program, v = random_program(np.random.default_rng(seed))
    assert program.violation(v) == 0
    value = sum(Fraction(float(c)) * int(x) for c, x in zip(program.objective, v, strict=True))
    bound = program.dual_bound(np.array(prices))
    assert bound == -np.inf or Fraction(bound) <= value + Fraction(float(program.constant))


def test_rounding_in_huge_prices_proves_nothing(rng):
    for _ in range(300):
        matrix, v = rng.normal(size=(3, 6)), rng.uniform(-1, 1, 6)
        builder = ProgramBuilder()
        x = builder.variables(-np.ones(6), np.ones(6))
        builder.rows([(x, matrix)], matrix @ v + 1e-9)
        program = builder.program((x, rng.normal(size=6)))
        # Reduced costs of about zero: the bound is a difference of huge numbers.
        prices = -np.abs(rng.normal(size=3)) * 10.0 ** rng.integers(0, 20)
        program = builder.program((x, prices @ matrix))
        assert program.dual_bound(prices) <= program.value(v) + 1e-9 * np.abs(prices).sum()


def test_the_solvers_prices_prove_the_optimum(solver, rng):
    for _ in range(8):
        program, _ = random_program(rng)
        answer = solver.solve(program, 10, relax=True)
        expected = optimum(program)
        assert answer.status == "optimal"
        assert answer.objective == pytest.approx(expected, abs=1e-7)
        assert answer.proven_bound() == pytest.approx(expected, abs=1e-7)
        assert program.violation(answer.v) <= 1e-8


def test_many_objectives_have_the_optima_that_they_have_alone(solver, rng):
    program, _ = random_program(rng, variables=6)
    objectives = rng.integers(-3, 4, (4, 6)).astype(float)
    for objective, answer in zip(objectives, solver.solve_many(program, objectives, 10, relax=True), strict=True):
        alone = Program(**{**vars(program), "objective": objective, "constant": np.array(0.0)})
        assert answer.proven_bound(objective) == pytest.approx(optimum(alone), abs=1e-7)


def test_integer_optima_are_those_of_enumeration(solver):
    weights, profits = np.array([4.0, 3.0, 5.0, 7.0, 2.0]), np.array([5.0, 4.0, 6.0, 9.0, 1.0])
    builder = ProgramBuilder()
    take = builder.binaries(5)
    builder.rows([(take, weights[None])], np.array([10.0]))
    program = builder.program((take, -profits))
    sets = np.array(list(np.ndindex(*[2] * 5)))
    best = -(sets @ profits)[sets @ weights <= 10].max()
    answer = solver.solve(program, 10)
    assert answer.status == "optimal" and answer.objective == pytest.approx(best) == pytest.approx(answer.bound)
    assert program.binaries == 5


def circle(goal: np.ndarray) -> Program:
    """Least ``goal . x`` in the unit disc, by squares."""
    builder = ProgramBuilder()
    x = builder.variables(-np.ones(2), np.ones(2))
    square = builder.variables(np.zeros(2), np.ones(2))
    builder.rows([(square, np.ones((1, 2)))], np.array([1.0]))
    builder.squares(x, square)
    return builder.program((x, goal))


@pytest.mark.parametrize("relax", [True, False])
def test_tangents_close_in_on_the_disc_from_outside(solver, relax):
    goal = np.array([3.0, -4.0])
    answer = solver.solve(circle(goal), 20, relax=relax)
    assert -5.0 * (1 + 2e-6) <= answer.objective <= -5.0 + 1e-9
    if relax:
        assert -5.0 * (1 + 2e-6) <= answer.proven_bound() <= -5.0


def test_tangents_end_where_the_least_sum_of_squares_is_zero(solver):
    """Relative to zero nothing is close enough: the solver's tolerance must do."""
    builder = ProgramBuilder()
    x = builder.variables(np.array([-1.0, -0.7]), np.array([2.0, 1.1]))
    square = builder.variables(np.zeros(2), np.full(2, 4.0))
    builder.squares(x, square)
    for relax in (True, False):
        answer = solver.solve(builder.program((square, np.ones(2))), 5, relax=relax)
        assert answer.objective == pytest.approx(0.0, abs=1e-7)
        assert len(answer.program.right) < 200


def test_tangents_lie_under_the_parabola(rng):
    program = circle(np.ones(2))
    tangents = np.array([[0, 2, 0.3], [1, 3, -0.9], [0, 2, 7.0]])
    tighter = program.with_tangents(tangents)
    assert np.array_equal(dense(tighter)[1:], [[0.6, 0, -1, 0], [0, -1.8, 0, -1], [14, 0, -1, 0]])
    for x in rng.uniform(-0.7, 0.7, (50, 2)):
        assert tighter.violation(np.append(x, x**2)) <= 1e-15
    assert tighter.violation(np.array([0.3, 0, 0.0, 0])) == pytest.approx(0.09)


@pytest.mark.parametrize("row", [[2, 0, 0.5], [0, 3, 0.5], [0, 1, 0.5], [0, 2, np.nan], [-4, 2, 0.5]])
def test_a_row_that_is_no_tangent_is_refused(row):
    with pytest.raises(ValueError, match="no tangents"):
        circle(np.ones(2)).with_tangents(np.array([row], float))


def test_a_program_survives_its_bytes(rng):
    program, _ = random_program(rng)
    back = Program.from_bytes(program.to_bytes())
    for name, array in vars(program).items():
        assert np.array_equal(array, getattr(back, name)) and array.dtype == getattr(back, name).dtype


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nonsense", b"\x00" * 40, pack({"a": np.zeros(9)})[:-30]])
def test_bytes_that_are_no_arrays_are_refused(data):
    with pytest.raises(ValueError, match="not a message"):
        unpack(data)


def test_pickled_objects_are_neither_sent_nor_read():
    with pytest.raises(ValueError):
        pack({"a": np.array([object()])})


@pytest.mark.parametrize("seed", range(8))
def test_rows_that_give_way_at_a_high_cost_change_no_minimum(seed):
    program, _ = random_program(np.random.default_rng(seed))
    elastic = program.elastic(1e4)
    assert len(elastic.right) == len(program.right)
    assert optimum(elastic) == pytest.approx(optimum(program), abs=1e-6)
    assert optimum(program.elastic(0.0)) <= optimum(program) + 1e-9


def test_rows_that_give_way_show_how_much_a_program_without_a_solution_lacks():
    builder = ProgramBuilder()
    x = builder.variables(np.zeros(2), np.ones(2))
    builder.rows([(x, np.array([[1.0, 1.0]]))], np.array([-0.5]))  # at least 0, so half too much
    builder.rows([(x, np.array([[1.0, -1.0]]))], np.array([3.0]), equal=True)  # at most 1, so two too little
    program = builder.program((x, np.array([1.0, 1.0])))
    # Breaking rows by 0.5 and 3 with x = 0, or by 1.5 and 2 with x = (1, 0), which costs 1 itself.
    assert optimum(program.elastic(100.0)) == pytest.approx(350.0)
