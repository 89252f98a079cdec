"""Products of two tensors: their planes and ranges, in closed form and against exact arithmetic, and every pass."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from methods import GENERAL
from soundness.networks import Sketch

from tfcert.catalog import propagated
from tfcert.network import Builder, Contraction, Network, Product
from tfcert.network.graph import Multivariate
from tfcert.propagation import contraction, product, stepping
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import check_names, output_bounds, pre_activation_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.contraction import CONTRACTION
from tfcert.propagation.enclosures import Plane, Planes
from tfcert.propagation.kinds import KINDS, multivariate_kind
from tfcert.propagation.plan import entries_per_row
from tfcert.propagation.preactivation import Passes
from tfcert.propagation.product import PRODUCT, box_of, clipped_ratio, default_places, planes_at
from tfcert.sets.balls import Box as BoxSet
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

NODE = Product(name="product", inputs=(1, 2), shape=(4,))


def boxes(seed: int) -> tuple[tuple[tf.Tensor, tf.Tensor], ...]:
    """Bounds of two factors, ``[50, 4]``: of either sign and both, wide and narrow, some of width zero."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(2):
        lower = rng.normal(size=(50, 4)) * rng.choice([0.1, 1.0, 10.0], (50, 4))
        width = rng.exponential(size=lower.shape) * rng.choice([0.0, 1e-3, 1.0, 5.0], lower.shape)
        pairs.append((tf.constant(lower), tf.constant(lower + width)))
    return tuple(pairs)


def spread(x, y, count=7):
    """Points of both factors between their bounds, ends included: two ``[count * count, 50, 4]``."""
    shares = np.linspace(0, 1, count)[:, None, None]
    first, second = (low.numpy() + shares * (high - low).numpy() for low, high in (x, y))
    return np.repeat(first, count, axis=0), np.tile(second, (count, 1, 1))


def at(slopes, intercept, x, y):
    return slopes[0].numpy() * x + slopes[1].numpy() * y + intercept.numpy()


@pytest.mark.parametrize("place", [-1.0, -0.3, 0.0, 0.8, 1.0])
def test_every_choice_of_planes_encloses_the_product_and_the_ends_meet_it_at_two_corners(place):
    x, y = boxes(0)
    same = tf.fill(x[0].shape, tf.constant(place, tf.float64))
    planes = planes_at(box_of(NODE, x, y), same, same)
    first, second = spread(x, y)
    slack = 1e-12 * (1 + np.abs(first) * np.abs(second)).max()
    below, above = at(planes.lower, planes.below, first, second), at(planes.upper, planes.above, first, second)
    assert (below <= first * second + slack).all()
    assert (above >= first * second - slack).all()
    if abs(place) == 1:
        one = int(place > 0)  # the corner that the lower plane touches: both lower ends, or both upper ones
        for slopes, intercept, corner in (
            (planes.lower, planes.below, (x[one], y[one])),
            (planes.upper, planes.above, (x[1 - one], y[one])),
        ):
            ends = [end.numpy() for end in corner]
            np.testing.assert_allclose(at(slopes, intercept, *ends), ends[0] * ends[1], atol=slack)


def test_the_default_planes_have_the_extrema_of_the_product_over_the_box():
    x, y = boxes(1)
    planes = PRODUCT.relax(NODE, (x, y), None)
    first, second = spread(x, y, 2)
    low, high = PRODUCT.interval(NODE, (x, y))
    scale = 1e-12 * (1 + np.abs(first * second).max())
    np.testing.assert_allclose(at(planes.lower, planes.below, first, second).min(axis=0), low, atol=scale)
    np.testing.assert_allclose(at(planes.upper, planes.above, first, second).max(axis=0), high, atol=scale)


def test_the_interval_of_a_product_is_the_exact_one():
    x, y = boxes(2)
    low, high = (end.numpy() for end in PRODUCT.interval(NODE, (x, y)))
    for place in np.ndindex(5, 4):
        ends = [[Fraction(float(end.numpy()[place])) for end in pair] for pair in (x, y)]
        exact = [a * b for a, b in itertools.product(*ends)]
        assert low[place] == pytest.approx(float(min(exact)), rel=1e-15)
        assert high[place] == pytest.approx(float(max(exact)), rel=1e-15)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("place", range(4))
def test_infinite_bounds_give_infinite_bounds_and_never_nan(bad, place):
    ends = [tf.constant([[end]], tf.float32) for end in (-1.0, 2.0, 0.0, 0.0)]
    ends[place] = tf.constant([[bad]], tf.float32)
    x, y = (ends[0], ends[1]), (ends[2], ends[3])
    low, high = PRODUCT.interval(NODE, (x, y))
    assert float(low[0, 0]) == -np.inf and float(high[0, 0]) == np.inf
    planes = PRODUCT.relax(NODE, (x, y), None)
    assert float(planes.below[0, 0]) == -np.inf and float(planes.above[0, 0]) == np.inf
    assert all(np.isfinite(slope).all() for slope in (*planes.lower, *planes.upper))


def test_a_product_that_overflows_is_not_bounded_by_what_it_overflowed_to():
    """The product of these lies above every float, and not above infinity."""
    wide = (tf.constant([[1e30]], tf.float32), tf.constant([[2e30]], tf.float32))
    low, high = PRODUCT.interval(NODE, (wide, wide))
    assert float(low[0, 0]) == -np.inf and float(high[0, 0]) == np.inf


def test_gradients_of_planes_and_ranges_are_finite_at_degenerate_intervals_and_those_of_differences():
    # By column: a box, a point, one factor a point, and both around 0.
    starts = [
        tf.Variable([[0.5, 1.0, 1.0, -1e-40]], dtype=tf.float64),
        tf.Variable([[2.0, 1.0, 1.5, 1e-40]], dtype=tf.float64),
        tf.Variable([[-1.0, 0.0, 3.0, -2.0]], dtype=tf.float64),
        tf.Variable([[1.0, 0.0, 3.0, 2.0]], dtype=tf.float64),
    ]
    weights = tf.constant([[1.0, 2.0, -1.0, 0.5]], tf.float64)

    def total() -> tf.Tensor:
        x, y = (starts[0], starts[1]), (starts[2], starts[3])
        planes = PRODUCT.relax(NODE, (x, y), None)
        parts = [*planes.lower, planes.below, *planes.upper, planes.above, *PRODUCT.interval(NODE, (x, y))]
        return tf.add_n([tf.reduce_sum(weights * part * (k + 1)) for k, part in enumerate(parts)])

    with tf.GradientTape() as tape:
        value = total()
    gradients = tape.gradient(value, starts)
    assert all(np.isfinite(g).all() for g in gradients)
    for variable, gradient in zip(starts, gradients, strict=True):
        before = variable.numpy().copy()
        ends = []
        for sign in (1, -1):
            variable[0, 0].assign(before[0, 0] + sign * 1e-6)
            ends.append(float(total()))
        variable.assign(before)
        assert float(gradient[0, 0]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


def test_default_planes_reach_the_product_s_extrema_and_have_the_least_slope_by_the_wider_factor():
    x, y = boxes(300)
    box = box_of(NODE, x, y)
    planes = planes_at(box, *default_places(box))
    corners = np.stack([a * b for a in x for b in y])
    ends = [(a, b) for a in x for b in y]
    for side, slopes, at, extreme in (
        (np.min, planes.lower, planes.below, corners.min(0)),
        (np.max, planes.upper, planes.above, corners.max(0)),
    ):
        values = np.stack([slopes[0] * a + slopes[1] * b + at for a, b in ends])
        np.testing.assert_allclose(side(values, axis=0), extreme, atol=1e-9)
        wide = box.dy > box.dx
        size = np.abs(np.where(wide, slopes[1], slopes[0]))
        other = np.abs(np.where(wide, box.mx, box.my)) - np.where(wide, box.dx, box.dy)
        np.testing.assert_allclose(size, np.maximum(other, 0), atol=1e-9)


def test_steps_through_a_product_are_those_of_its_planes():
    rng = np.random.default_rng(3)
    x, y = boxes(3)
    box = box_of(NODE, x, y)
    rows = Coefficients(tf.constant(rng.normal(size=(50, 1, 3, 4))), (4,))
    places = default_places(box)
    planes = planes_at(box, *places)
    opened = PRODUCT.opened(NODE, (x, y), None).over(rows)
    fixed, chosen = planes.back(rows), opened.back(rows, opened.first(rows.values.shape))
    for wanted, found in zip(fixed[0], chosen[0], strict=True):
        np.testing.assert_allclose(found.values, wanted.values, atol=1e-10)
    np.testing.assert_allclose(chosen[1], fixed[1], atol=1e-9)
    values = rows.values.numpy()[:, 0]
    low = np.where(values > 0, planes.lower[0].numpy()[:, None], planes.upper[0].numpy()[:, None])
    np.testing.assert_allclose(fixed[0][0].values[:, 0], values * low)
    # Forward: the planes over an input that the factors are functions of.
    slopes = [tf.constant(rng.normal(size=(1, 2, 4))) for _ in range(4)]
    level = tf.zeros([1, 4], tf.float64)
    inputs = [Planes(Plane(slopes[k], level - 1), Plane(slopes[k + 1], level + 1)) for k in (0, 2)]
    found = planes.advance(inputs)
    up, down = np.maximum(planes.lower[0], 0)[:, None], np.minimum(planes.lower[0], 0)[:, None]
    other, lower = np.maximum(planes.lower[1], 0)[:, None], np.minimum(planes.lower[1], 0)[:, None]
    wanted = up * slopes[0] + down * slopes[1] + other * slopes[2] + lower * slopes[3]
    np.testing.assert_allclose(found.lower.slopes, wanted)


def coordinates(dtype: tf.DType = tf.float64) -> Network:
    """``x0 * x1``."""
    builder = Builder(dtype)
    x = builder.input((2,), "input")
    with builder.scope("multiply", "Multiply"):
        first, second = (builder.index(x, np.array([k])) for k in (0, 1))
        product = builder.product(first, second)
    return builder.network(product)[0]


def rows_of(network: Network, rows: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    coefficients = tf.constant(np.reshape(rows, (1, -1, *network.output_shape)), network.dtype)
    return coefficients, tf.zeros(coefficients.shape[:2], network.dtype)


@pytest.mark.parametrize("method", GENERAL)
def test_a_product_of_two_inputs_has_its_exact_range(method):
    network = coordinates()
    box = BoxSet(np.array([[0.9, 1.9], [-1.0, -3.0]]), np.array([[1.1, 2.1], [2.0, 0.5]]))
    found = output_bounds(network, region_of(box), rows_of(network, np.array([1.0, -1.0])), method).numpy()
    np.testing.assert_allclose(found, [[1.71, -2.31], [-6.0, -3.0]], atol=1e-12)


def gated(seed: int, image: bool = False) -> Sketch:
    """Dense branches (or convolutions) that are multiplied, before and after ReLUs, and a product of products."""
    rng = np.random.default_rng(seed)
    s = Sketch(rng)
    if image:
        x = s.input((4, 4, 2))
        gate = s.activate(s.conv(x, 2, (3, 3), padding=((1, 1), (1, 1))))
        other = s.conv(s.activate(s.conv(x, 2, (3, 3), padding=((1, 1), (1, 1)))), 2, (1, 1))
        first = s.activate(s.product(gate, other), 0.1)
        whole = s.product(s.conv(first, 2, (3, 3), padding=((1, 1), (1, 1))), gate)
        s.dense(s.reshape(s.activate(whole), (32,)), 3)
        return s
    x = s.input((3,))
    first = s.product(s.dense(x, 5), s.activate(s.dense(x, 5)))
    second = s.product(s.activate(s.dense(first, 4)), s.dense(first, 4))
    s.dense(s.sum(second, s.dense(x, 4)), 3)
    return s


@pytest.fixture
def always_patches(monkeypatch):
    """Patches wherever they are possible: on images this small the cost model goes dense at once."""
    monkeypatch.setattr(stepping, "patches_pay", lambda *_: True)


@pytest.mark.parametrize("method", ["crown", "alpha-crown"])
def test_patches_and_dense_rows_agree_on_products_of_images(method, monkeypatch):
    s, rng = gated(4, image=True), np.random.default_rng(0)
    region = region_of(LpBall(rng.uniform(0, 1, (2, 4, 4, 2)), 0.05, "l2", (0, 1)))
    found = []
    for pays in (True, False):
        monkeypatch.setattr(stepping, "patches_pay", lambda *_, pays=pays: pays)
        network = s.network()
        asked = rows_of(network, np.concatenate([np.eye(3), -np.eye(3)]))
        found.append(output_bounds(network, region, asked, method, ascent=Ascent(3)).numpy())
        product = next(i for i, node in enumerate(network.nodes) if isinstance(node, Product))
        assert entries_per_row(network, product) == (18 if pays else 32)
    np.testing.assert_allclose(*found, atol=1e-8)


@pytest.mark.parametrize("image", [False, True])
def test_methods_are_in_the_order_of_their_care(image, always_patches):
    """Searched planes are not looser than the named ones, nor those of tight bounds than those of intervals' in all."""
    found = {}
    for seed in range(3):
        s = gated(seed, image)
        network = s.network()
        region = region_of(LpBall(s.rng.uniform(0, 1, (2, *network.input_shape)), 0.1))
        asked = rows_of(network, np.concatenate([np.eye(3), -np.eye(3)]))
        bounds = {m: output_bounds(network, region, asked, m, ascent=Ascent(10)).numpy() for m in GENERAL}
        assert (bounds["alpha-crown"] >= bounds["crown"] - 1e-9).all()
        for method in ("crown", "crown-ibp", "forward", "forward+backward"):
            assert (bounds[method] >= bounds["ibp"] - 1e-9).all()
        for method, bound in bounds.items():
            found.setdefault(method, []).append(bound.mean())
    mean = {method: np.mean(values) for method, values in found.items()}
    assert mean["ibp"] < mean["crown-ibp"] < mean["crown"] < mean["alpha-crown"]


@pytest.mark.parametrize("inputs", [1, 2])
def test_planes_over_blocks_of_inputs_bound_products_as_those_over_all(inputs):
    network = gated(1).network()
    region = region_of(LpBall(np.full((2, 3), 0.5), 0.1))
    asked = rows_of(network, np.eye(3))
    whole, parts = (
        output_bounds(network, region, asked, "forward", passes=Passes(inputs=n)).numpy() for n in (None, inputs)
    )
    np.testing.assert_allclose(parts, whole, atol=1e-9)


def test_both_factors_of_a_product_are_bounded():
    network = gated(2).network()
    wanted = {i for node in network.nodes if isinstance(node, Product) for i in node.inputs}
    assert wanted <= set(network.bounded())
    region = region_of(LpBall(np.full((1, 3), 0.5), 0.1))
    for method in GENERAL:
        assert wanted <= set(pre_activation_bounds(network, region, method))


def contracted(equation: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> Network:
    """Both halves of a vector, contracted."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    builder = Builder(tf.float64)
    x = builder.input((sum(sizes),), "input")
    with builder.scope("contract", "Einsum"):
        first = builder.index(x, np.arange(sizes[0]).reshape(shapes[0]))
        second = builder.index(x, sizes[0] + np.arange(sizes[1]).reshape(shapes[1]))
        product = builder.contract(equation, first, second)
        return builder.network(builder.reshape(product, (int(np.prod(product.shape)),)))[0]


EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 2)),
    "hqd,hkd->hqk": ((2, 2, 3), (2, 3, 3)),
    "hqk,khd->qhd": ((2, 3, 2), (2, 2, 2)),
    "ij,ij->": ((2, 3), (2, 3)),
    "hwc,c->hwc": ((2, 2, 3), (3,)),
    "ii,j->ij": ((2, 2), (3,)),
    "ij,k->k": ((2, 2), (2,)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_contraction_is_that_of_einsum_and_its_bounds_hold_at_samples_and_corners(equation):
    shapes, rng = EQUATIONS[equation], np.random.default_rng(5)
    network = contracted(equation, shapes)
    center = rng.normal(size=(1, *network.input_shape))
    ball = LpBall(center, 0.2)
    points = np.concatenate([*ball.sample(200, 0), *(center + 0.2 * rng.choice([-1, 1], (200, 1, center.size)))])
    left, right = np.split(points, [int(np.prod(shapes[0]))], axis=1)
    wanted = [
        np.einsum(equation, a.reshape(shapes[0]), b.reshape(shapes[1])).ravel()
        for a, b in zip(left, right, strict=True)
    ]
    values = network(tf.constant(points)).numpy()
    np.testing.assert_allclose(values, wanted, atol=1e-12)
    eye = np.eye(values.shape[1])
    for method in GENERAL:
        found = output_bounds(network, region_of(ball), rows_of(network, np.concatenate([eye, -eye])), method).numpy()
        low, high = found[0, : len(eye)], -found[0, len(eye) :]
        assert (low <= values.min(axis=0) + 1e-12).all() and (high >= values.max(axis=0) - 1e-12).all()


def one_by_one(equation: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> Network:
    """The same contraction as a product of repeated tensors, and its sum."""
    words, result = equation.split("->")
    sizes = dict(zip(words.replace(",", ""), itertools.chain(*shapes), strict=True))
    letters = result + "".join(k for k in sizes if k not in result)
    whole = [sizes[k] for k in letters]
    builder = Builder(tf.float64)
    x = builder.input((sum(int(np.prod(shape)) for shape in shapes),), "input")
    with builder.scope("contract", "Einsum"):
        factors, start = [], 0
        for word, shape in zip(words.split(","), shapes, strict=True):
            number = start + np.arange(int(np.prod(shape))).reshape(shape)
            own = "".join(k for k in letters if k in word)
            apart = np.einsum(f"{word}->{own}", number).reshape([sizes[k] if k in word else 1 for k in letters])
            factors.append(builder.index(x, np.broadcast_to(apart, whole)))
            start += number.size
        total = builder.sum(builder.product(*factors), range(len(result), len(letters)))
        return builder.network(builder.reshape(total, (int(np.prod(total.shape)),)))[0]


@pytest.mark.parametrize("equation", ["ij,jk->ik", "hqd,hkd->hqk", "hqk,khd->qhd", "ij,ij->"])
@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_a_contraction_has_the_bounds_of_its_products_one_by_one(equation, eps, monkeypatch):
    """Its default planes are sums of theirs, at the means of the places of least slope; searched planes have fewer
    choices, and are not below the default ones."""

    def means(box):
        first, second = clipped_ratio(box.my, box.dy), clipped_ratio(box.mx, box.dx)
        return -0.5 * (first + second), 0.5 * (second - first)

    monkeypatch.setattr(product, "default_places", means)
    nets = [make(equation, EQUATIONS[equation]) for make in (contracted, one_by_one)]
    assert [type(n).__name__ for net in nets for n in net.nodes if isinstance(n, Multivariate)] == [
        "Contraction",
        "Product",
    ]
    rng = np.random.default_rng(6)
    region = region_of(LpBall(rng.normal(size=(2, *nets[0].input_shape)), eps, "l2"))
    rows = rng.normal(size=(3, *nets[0].output_shape))
    for method in GENERAL:
        ours, theirs = (
            output_bounds(net, region, rows_of(net, rows), method, ascent=Ascent(5)).numpy() for net in nets
        )
        if method == "alpha-crown":
            assert (ours >= output_bounds(nets[0], region, rows_of(nets[0], rows)).numpy() - 1e-9).all()
        else:
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("bad", range(3))
def test_a_contraction_knows_nothing_where_a_number_of_it_is_unknown(bad):
    network = contracted("ij,jk->ik", EQUATIONS["ij,jk->ik"])
    node = network.nodes[next(i for i, n in enumerate(network.nodes) if isinstance(n, Contraction))]
    low, high = tf.ones([1, 2, 3], tf.float64), 2 * tf.ones([1, 2, 3], tf.float64)
    high = tf.tensor_scatter_nd_update(high, [[0, 0, bad]], [tf.constant(np.inf, tf.float64)])
    other = (tf.ones([1, 3, 2], tf.float64), tf.ones([1, 3, 2], tf.float64))
    bottom, top = (end.numpy()[0] for end in CONTRACTION.interval(node, [(low, high), other]))
    assert np.isinf(bottom[0]).all() and np.isinf(top[0]).all()
    np.testing.assert_allclose([bottom[1], top[1]], [[3, 3], [6, 6]])
    planes = CONTRACTION.relax(node, [(low, high), other], None)
    rows = Coefficients(tf.constant(np.eye(4)[None, None]), (2, 2))
    found, constant = planes.back(rows)
    assert np.isfinite(found[0].values[0, 0, 2:]).all()
    assert not np.isfinite(constant[0, 0, :2]).any()


def test_a_sum_of_too_many_products_is_enclosed_by_middles_and_radii(monkeypatch):
    network = contracted("ij,jk->ik", EQUATIONS["ij,jk->ik"])
    node = network.nodes[next(i for i, n in enumerate(network.nodes) if isinstance(n, Contraction))]
    rng = np.random.default_rng(7)
    pairs = []
    for shape in ((5, 2, 3), (5, 3, 2)):
        low = rng.normal(size=shape)
        pairs.append((tf.constant(low), tf.constant(low + rng.exponential(size=shape))))
    exact = CONTRACTION.interval(node, pairs)
    monkeypatch.setattr(contraction, "_LARGEST", 1)
    wide = CONTRACTION.interval(node, pairs)
    assert (wide[0] <= exact[0] + 1e-12).numpy().all() and (wide[1] >= exact[1] - 1e-12).numpy().all()
    assert ((wide[1] - wide[0]) <= 1.5 * (exact[1] - exact[0]) + 1e-12).numpy().all()


def test_a_contraction_that_does_not_fit_is_refused():
    from tfcert.network import UnsupportedLayerError

    with pytest.raises(UnsupportedLayerError, match=r"contracts shapes \[\(2, 3\), \(2, 3\)\]"):
        contracted("ij,jk->ik", ((2, 3), (2, 3)))


def test_every_multivariate_kind_node_has_its_line_in_the_table():
    """A kind that some pass has no answer for could not be made: each of its functions is abstract in ``Kind``."""

    def kinds(of: type) -> set[type]:
        return {c for sub in of.__subclasses__() if sub.__module__.startswith("tfcert.") for c in {sub, *kinds(sub)}}

    assert kinds(Multivariate) == set(KINDS)
    for kind in kinds(Multivariate):
        assert not kind.__abstractmethods__


def test_a_kind_that_nobody_bounds_is_an_error_that_names_it():
    class Quotient(Multivariate):
        def evaluate(self, inputs):
            return inputs[0] / inputs[1]

        deviation = carried = lipschitz = evaluate

    with pytest.raises(TypeError, match=r"no rule to bound a Quotient node \(q\)"):
        multivariate_kind(Quotient(name="q", inputs=(0, 0), shape=(2,)))


@pytest.mark.parametrize("method", sorted(set(propagated()) - set(GENERAL)))
def test_methods_of_relu_networks_refuse_a_product(method):
    with pytest.raises(ValueError, match=rf"the method {method} is for networks of .* and multiply_2 is a product"):
        check_names(coordinates(), method, None)
