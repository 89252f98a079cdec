"""The losses of objectives agree with interval arithmetic in NumPy's double precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.objectives import (
    IBP,
    MTLIBP,
    AdvIBP,
    ConstrainedIBP,
    CrownIBP,
    IntervalWidth,
    ReluBalance,
    Tightness,
)
from training.small import Intervals, certified, crossentropies, dense_net, robust_step

EPS, CLIP = 0.06, (0.0, 1.0)


@pytest.fixture
def dense(data):
    """A network, its data, and its intervals."""
    model = dense_net()
    return model, *data, Intervals(model, data[0], EPS, CLIP)


@pytest.mark.parametrize("elide", [True, False])
def test_ibp_mixes_the_nominal_loss_and_the_loss_of_worst_logits(dense, elide):
    model, x, y, exact = dense
    worst = -exact.margins(y) if elide else exact.worst(y)
    expected = 0.3 * crossentropies(exact.nominal, y).mean() + 0.7 * crossentropies(worst, y).mean()
    found = robust_step(certified(model, IBP(EPS, kappa=0.3, clip=CLIP, elide=elide)), x, y)
    np.testing.assert_allclose(float(found.loss), expected, rtol=1e-5)
    np.testing.assert_allclose(found.logits, exact.nominal, rtol=1e-4, atol=1e-5)


def test_elision_is_tighter_on_every_sample(dense):
    _, _, y, exact = dense
    assert np.all(crossentropies(-exact.margins(y), y) < crossentropies(exact.worst(y), y))


def test_the_training_radius_is_eps_times_its_factor(dense):
    model, x, y, _ = dense
    wide = Intervals(model, x, 1.5 * EPS, CLIP)
    found = robust_step(certified(model, IBP(EPS, kappa=0.0, clip=CLIP, eps_factor=1.5)), x, y)
    np.testing.assert_allclose(float(found.loss), crossentropies(-wide.margins(y), y).mean(), rtol=1e-5)


@pytest.mark.parametrize("layers", ["all", "hidden"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_width_term_is_the_squared_widths_of_affine_and_activation_outputs(dense, layers, reduction):
    model, x, y, exact = dense
    pairs = [exact.affine, exact.hidden] + ([exact.logits] if layers == "all" else [])
    squares = [(upper - lower) ** 2 for lower, upper in pairs]
    reduce = np.mean if reduction == "mean" else np.sum
    expected = 0.2 * sum(reduce(square, axis=1) for square in squares).mean()
    with_term = ConstrainedIBP(EPS, clip=CLIP, weight=0.2, layers=layers, reduction=reduction)
    plain = ConstrainedIBP(EPS, clip=CLIP, weight=0.0, reduction=reduction)
    losses = [float(robust_step(certified(model, o), x, y).loss) for o in (with_term, plain)]
    np.testing.assert_allclose(losses[0] - losses[1], expected, rtol=2e-4)


@pytest.mark.parametrize("layers", ["all", "hidden"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_default_width_term_is_logarithms_of_mean_squared_widths(dense, layers, weighted):
    model, x, y, exact = dense
    weights = np.linspace(0, 2, len(x)).astype(np.float32) if weighted else None
    counted = np.ones(len(x)) if weights is None else weights.astype(float)
    pairs = [exact.affine, exact.hidden] + ([exact.logits] if layers == "all" else [])
    squares = [(((upper - lower) ** 2).mean(axis=1) * counted).mean() for lower, upper in pairs]
    options = {"clip": CLIP, "kappa": 0.0}
    with_term, plain = IBP(EPS, regularizers=[IntervalWidth(0.2, layers)], **options), IBP(EPS, **options)
    losses = [float(robust_step(certified(model, o), x, y, weights).loss) for o in (with_term, plain)]
    np.testing.assert_allclose(losses[0] - losses[1], 0.2 * np.mean(np.log1p(squares)), rtol=2e-4)


def test_the_default_bounds_what_wide_intervals_weigh_and_the_formula_does_not(dense):
    """The derivative by the logarithm of a scale of all widths: at most 2, however wide they are."""
    model, x, y, _ = dense
    terms = {}
    for scale in (1.0, 100.0, 110.0):
        wide = certified(keras.models.clone_model(model), IBP(EPS))
        wide.model.set_weights([w * scale if w.ndim == 2 else w for w in model.get_weights()])
        for reduction in ("log", "sum"):
            objective = IBP(EPS, regularizers=[IntervalWidth(1.0, "hidden", reduction)])
            losses = [robust_step(certified(wide.model, o), x, y).loss for o in (objective, IBP(EPS))]
            terms[reduction, scale] = float(losses[0] - losses[1])
    assert 0 < terms["log", 110.0] - terms["log", 100.0] <= 2.01 * np.log(1.1)
    assert terms["sum", 110.0] - terms["sum", 100.0] > 100 * np.log(1.1)


@pytest.mark.parametrize("make", [IBP, CrownIBP, MTLIBP, AdvIBP, ConstrainedIBP])
def test_the_width_term_goes_with_every_objective(dense, make):
    model, x, y, _ = dense
    kappa = {"clip": CLIP, "kappa": 0.5}
    width = IntervalWidth(0.5, "hidden")
    found, without = (
        robust_step(certified(model, make(EPS, regularizers=terms, **kappa)), x, y) for terms in ([width], [])
    )
    alone = [
        float(robust_step(certified(model, IBP(EPS, regularizers=terms, **kappa)), x, y).loss)
        for terms in ([width], [])
    ]
    np.testing.assert_allclose(float(found.loss - without.loss), alone[0] - alone[1], rtol=1e-3)
    assert any(np.any(a.numpy() != b.numpy()) for a, b in zip(found.gradients, without.gradients, strict=True))


def test_constrained_ibp_by_the_formula_is_ibp_without_elision_and_a_width_term(dense):
    model, x, y, _ = dense
    composed = IBP(EPS, clip=CLIP, elide=False, regularizers=[IntervalWidth(0.5, "hidden", "sum")])
    named = ConstrainedIBP(EPS, clip=CLIP, weight=0.5, layers="hidden", reduction="sum")
    steps = [robust_step(certified(model, objective), x, y) for objective in (composed, named)]
    assert float(steps[0].loss) == float(steps[1].loss)


def test_widths_of_a_sample_without_weight_do_not_count(dense):
    model, x, y, exact = dense
    weights = np.zeros(len(x), np.float32)
    weights[3] = 2.0
    objective = IBP(EPS, kappa=0.0, clip=CLIP, regularizers=[IntervalWidth(1.0, "hidden", "sum")])
    squares = sum(((upper - lower)[3] ** 2).sum() for lower, upper in (exact.affine, exact.hidden))
    worst = crossentropies(-exact.margins(y), y)[3]
    found = robust_step(certified(model, objective), x, y, weights)
    np.testing.assert_allclose(float(found.loss), 2 * (worst + squares) / len(x), rtol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 0.4, 0.0])
def test_crown_ibp_mixes_the_bounds_that_certification_finds(dense, beta):
    model, x, y, _ = dense
    eps = 0.05  # certification takes the better of lines and intervals: here these are the lines
    ball = tfcert.LpBall(x, eps, clip=CLIP)
    by_lines, by_intervals = (
        np.where(np.eye(3)[y], 0, tfcert.margins(model, ball, y, method=method)) for method in ("crown-ibp", "ibp")
    )
    expected = crossentropies(-(beta * by_lines + (1 - beta) * by_intervals), y).mean()
    found = robust_step(certified(model, CrownIBP(eps, clip=CLIP, beta=beta, fuse=False)), x, y)
    np.testing.assert_allclose(float(found.loss), expected, rtol=1e-5)


@pytest.mark.parametrize("fuse", [True, False])
def test_a_scheduled_beta_is_a_weight(dense, fuse):
    model, x, y, _ = dense
    ramp = tfcert.schedules.Ramp(1.0, 0.0, 0, 10, "steps")
    scheduled = certified(model, CrownIBP(EPS, clip=CLIP, beta=ramp, fuse=fuse))
    for step, beta in ((0, 1.0), (4, 0.6), (10, 0.0)):
        labelled = tfcert.training.step.Labelled(tf.constant(x), tf.constant(y), None)
        eps, kappa = scheduled.objective.at(step)
        found = scheduled._stepper.robust(labelled, eps, kappa, tf.constant(step, tf.int64))
        fixed = robust_step(certified(model, CrownIBP(EPS, clip=CLIP, beta=beta, fuse=fuse)), x, y)
        np.testing.assert_allclose(float(found.loss), float(fixed.loss), rtol=1e-6)


def test_attack_mixes_lie_between_the_nominal_and_the_interval_loss(dense):
    model, x, y, exact = dense
    nominal, worst = crossentropies(exact.nominal, y).mean(), crossentropies(-exact.margins(y), y).mean()
    losses = {}
    for alpha in (0.0, 0.25, 1.0):
        found = robust_step(certified(model, MTLIBP(EPS, alpha=alpha, clip=CLIP, attack_steps=4)), x, y)
        losses[alpha] = float(found.loss)
    assert nominal < losses[0.0] < losses[1.0]
    np.testing.assert_allclose(losses[1.0], worst, rtol=1e-5)
    np.testing.assert_allclose(losses[0.25], 0.75 * losses[0.0] + 0.25 * losses[1.0], rtol=1e-5)


def test_attacked_points_stay_in_their_boxes_and_a_linear_model_is_attacked_exactly(data):
    x, y = data
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    objective = MTLIBP(EPS, clip=CLIP, attack_steps=5, alpha=0.0)
    wrapped = certified(model, objective)
    labelled = tfcert.training.step.Labelled(tf.constant(x), tf.constant(y), None)
    batch = wrapped._stepper._batch(labelled, tf.constant(EPS), tf.constant(3, tf.int64))
    points = tfcert.training.adversarial.ascent(batch, 1.0, 5, seed=0).numpy()
    lower, upper = np.maximum(x - np.float32(EPS), 0), np.minimum(x + np.float32(EPS), 1)
    assert np.all((points >= lower) & (points <= upper))
    corners = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1).T
    best = max_over_corners(model, lower, upper, corners, y)
    np.testing.assert_allclose(crossentropies(model(points).numpy().astype(float), y), best, rtol=1e-3)


def max_over_corners(model, lower, upper, corners, y):
    found = [
        crossentropies(model(np.where(corner, upper, lower).astype(np.float32)).numpy().astype(float), y)
        for corner in corners
    ]
    return np.max(found, axis=0)


def test_tightness_charges_layers_whose_intervals_outgrow_the_input(dense):
    model, x, y, exact = dense
    radius = [(upper - lower).mean() / 2 for lower, upper in (exact.input, exact.affine)]
    expected = 0.5 / 0.9 * max(0, 0.9 - radius[0] / radius[1])
    assert expected > 0.01
    found = term_of(model, x, y, Tightness(tolerance=0.9, fade=False))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_balance_charges_layers_with_unequal_active_and_inactive_parts(dense):
    model, x, y, exact = dense
    lower, upper = exact.affine
    middle, active, inactive = (lower + upper) / 2, lower > 0, upper < 0
    spread = (middle - middle.mean()) ** 2
    means = (middle * active).mean(), -(middle * inactive).mean()
    spreads = (spread * active).mean(), (spread * inactive).mean()
    short = [max(0, 0.8 - min(a / b, b / a)) for a, b in (means, spreads)]
    assert active.any() and inactive.any() and sum(short) > 0.01
    found = term_of(model, x, y, ReluBalance(weight=2.0, tolerance=0.8, fade=False))
    np.testing.assert_allclose(found, 2 * sum(short) / 0.8, rtol=1e-4)


def test_balance_terms_fade_as_eps_reaches_its_end(dense):
    model, x, y, _ = dense
    whole = term_of(model, x, y, Tightness(tolerance=0.9, fade=False), eps=0.05)
    ramp = tfcert.schedules.Ramp(0.05, 0.2, 1, 5, "steps")
    np.testing.assert_allclose(term_of(model, x, y, Tightness(tolerance=0.9), eps=ramp), 0.75 * whole, rtol=1e-4)
    assert term_of(model, x, y, Tightness(tolerance=0.9), eps=0.05) == 0


def term_of(model, x, y, regularizer, eps=EPS):
    losses = [
        float(robust_step(certified(model, IBP(eps, clip=CLIP, regularizers=terms)), x, y).loss)
        for terms in ([regularizer], [])
    ]
    return losses[0] - losses[1]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: IBP(-0.1), "eps must not be negative"),
        (lambda: IBP(0.1, kappa=1.5), "kappa must stay"),
        (lambda: IBP(0.1, clip=(1, 0)), "clip"),
        (lambda: IBP(0.1, eps_factor=0), "eps_factor"),
        (lambda: IBP(0.1, batch_norm="mean"), "batch_norm"),
        (lambda: CrownIBP(0.1, beta=2), "beta"),
        (lambda: MTLIBP(0.1, alpha=2), "alpha"),
        (lambda: AdvIBP(0.1, attack_steps=0), "attack"),
        (lambda: AdvIBP(0.1, decay=1.0), "decay"),
        (lambda: IntervalWidth(-1.0), "weight"),
        (lambda: IntervalWidth(1.0, "some"), "layers"),
        (lambda: IntervalWidth(1.0, "all", "max"), "reduction"),
        (lambda: Tightness(tolerance=0), "tolerance"),
    ],
)
def test_options_that_mean_nothing_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


def test_only_regularizers_are_regularizers():
    with pytest.raises(TypeError, match="no regularizer"):
        IBP(0.1, regularizers=[0.5])
