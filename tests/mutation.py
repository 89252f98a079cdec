"""Plants bugs, one at a time, and shows that the tests notice each.

    python tests/mutation.py [--jobs N] [WORD ...]

Every mutant is a replacement in a temporary copy of the package; the tests meant to catch it run against the copy and
must fail. Prints a table; exits with 1 if a mutant survives or no longer applies. WORDs select mutants by name.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXACT = "tests/soundness/test_exact.py"
BOUND = f"{EXACT}::test_bounds_lie_below_the_exact_optimum_and_reach_it_where_nothing_changes_sign"
AFFINE = "tests/propagation/test_affine.py"
BACKWARD = "tests/propagation/test_backward.py"
PATCHES = f"{BACKWARD}::test_patches_give_the_bounds_of_the_dense_network"
LINEAR = f"{BACKWARD}::test_every_method_but_interval_is_exact_on_linear_networks"
TOEPLITZ = f"{BACKWARD}::test_a_toeplitz_matrix_carries_patches_as_the_transposed_convolution_carries_images"
FOLDING = "tests/propagation/test_folding.py"
LINES = "tests/activations/test_relaxations.py"
POOLS = "tests/propagation/test_pooling.py"
OPTIMISED = "tests/propagation/test_optimised.py"
BALLS = "tests/propagation/test_concretize.py"
LAYERS = "tests/network/keras/test_layers.py"
SEARCH = "tests/propagation/test_radius.py"
ROUNDING = "tests/rigour/test_rigour.py"
TERMS = "tests/rigour/test_error_terms.py"
DECEIVED = "tests/rigour/test_deceived.py"
NORMS = "tests/propagation/test_rounded_norms.py"
KINDS = "tests/propagation/test_rounded_kinds.py"
SLACK = "tests/propagation/test_slack.py"
WIDE = "tests/propagation/test_widening.py"
PRICES = "tests/complete/test_rounded_prices.py"
SETS = "tests/sets/test_balls.py"
LOWERING = "tests/language/test_lowering.py"
PROBABILITIES = "tests/network/test_probabilities.py"
POINTS = "tests/language/test_points.py"
JOINED = "tests/language/test_regions_joined.py"
SHARES = "tests/driver/test_volume_shares.py"
ENCODING = "tests/complete/test_encoding.py"
SPLITTING = "tests/propagation/test_splitting.py"
CELLS = "tests/network/test_abstraction.py"
STEPS = "tests/complete/test_steps.py"
UNITS = "tests/language/test_units.py"
REGISTRATION = "tests/activations/test_registration.py"
VALIDATION = "tests/network/keras/test_validation.py"
PRODUCT = "tests/propagation/test_product.py"
SIMPLE = "tests/network/test_simplify.py"
FIXED = "tests/network/keras/test_fixed.py"
MIXED = "tests/soundness/test_mixed.py"
DIFFERENCE = "tests/propagation/test_difference.py"
RELATED = "tests/network/test_related.py"
SENSITIVITY = "tests/propagation/test_sensitivity.py"


@dataclass(frozen=True)
class Mutant:
    """A bug: in ``file``, the first ``old`` becomes ``new``; ``tests`` are meant to fail (``only`` selects some)."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    only: str = ""


MUTANTS = (
    Mutant("bounds swapped", "propagation/ranges.py", "return tf.minimum(low, high), tf.maximum(low, high)",
           "return tf.maximum(low, high), tf.minimum(low, high)", (f"{BOUND}[1]",)),
    Mutant("interval forgets the bias", "propagation/ranges.py", "together += node.bias()", "pass", (f"{BOUND}[1]",)),
    Mutant("the two ends of a row swapped", "propagation/interval.py", "upper = -tf.reshape(pair[:, :, 1, :]",
           "upper = tf.reshape(pair[:, :, 1, :]", (f"{BOUND}[1]",)),
    Mutant("first layer's hull for the ball", "propagation/interval.py", "if region.is_box:", "if True:",
           ("tests/propagation/test_methods.py",), "hull"),
    Mutant("a product's upper plane turned the wrong way", "propagation/product.py", "mx - above * dx",
           "mx + above * dx", (PRODUCT,), "every_choice"),
    Mutant("a product's searched planes turned the wrong way", "propagation/product.py", "(low - high) * dx",
           "(low + high) * dx", (PRODUCT,), "steps_through"),
    Mutant("a difference's upper chord below it", "propagation/difference.py", "-high_turn * left * share",
           "high_turn * left * share", (DIFFERENCE,), "by_the_signs"),
    Mutant("slopes of a difference's other side", "propagation/difference.py",
           "return chosen(theirs, ours), chosen(ours, theirs)", "return chosen(ours, theirs), chosen(theirs, ours)",
           (DIFFERENCE,), "by_the_signs"),
    Mutant("a difference's second value added", "propagation/difference.py", "(over, stay, -stay)",
           "(over, stay, stay)", (DIFFERENCE,), "steps_through"),
    Mutant("a difference's bounds not met with those of both", "propagation/difference.py",
           "tf.maximum(d[0], least), tf.minimum(d[1], most)", "d[0], d[1]", (DIFFERENCE,), "are_met"),
    Mutant("bounds by a difference with the wrong end", "propagation/difference.py",
           "least, most = a[0] - d[1], a[1] - d[0]", "least, most = a[0] - d[0], a[1] - d[1]", (DIFFERENCE,),
           "second_argument"),
    Mutant("bounds by a difference without our rounding", "propagation/difference.py",
           "return (least, most) if rounding is None else", "return (least, most) if True else", (DIFFERENCE,),
           "second_argument"),
    Mutant("a difference's second argument never bends it", "propagation/difference.py",
           "return (low_least < low_most) | (high_least < high_most)", "return high_least < high_most",
           (DIFFERENCE,), "either_side"),
    Mutant("a difference's chords without rounding", "propagation/difference.py", "low, high = low - lost, high + lost",
           "pass", ("tests/propagation/test_rounded_differences.py",), "no_two_programs"),
    Mutant("a second network bounded by itself", "propagation/preactivation.py",
           "if passes.select and stable_is_exact(network, index):\n            here = self._from_others",
           "if False:\n            here = self._from_others", ("tests/propagation/test_related_bounds.py",),
           "signs_of_a_second"),
    Mutant("planes of rounded pieces stacked", "complete/search/halving.py", "if pairs is not None:",
           "if pairs is not None and self._network.rounding is None:", ("tests/complete/test_related_decisions.py",),
           "planes_of_pieces"),
    Mutant("gaps of lines at their ends", "propagation/sensitivity.py", "(0.5 * ends[0] + 0.5 * ends[1])", "ends[0]",
           (SENSITIVITY,)),
    Mutant("gaps that only upper lines take", "propagation/sensitivity.py", "(tf.abs(low) + tf.abs(high)) * gap",
           "tf.abs(high) * gap", (SENSITIVITY,)),
    Mutant("a difference counts by itself", "propagation/sensitivity.py", "arguments, parts = inputs[3:], lines.lines",
           "arguments, parts = inputs[:1], lines.lines", (SENSITIVITY,)),
    Mutant("inputs that move neurons down count nothing", "propagation/sensitivity.py",
           "share = tf.abs(at[1] - at[0])", "share = tf.nn.relu(at[1] - at[0])", (SENSITIVITY,)),
    Mutant("what a cut is worth for the whole width", "propagation/sensitivity.py", "total / tf.where(known, width,",
           "total / tf.where(known, tf.ones_like(width),", (SENSITIVITY,)),
    Mutant("signs that boxes do not keep", "complete/search/halving.py", "(low >= 0).astype(np.int8) - (high <= 0)",
           "(high > 0).astype(np.int8) - (high <= 0)", ("tests/complete/test_boxes.py",), "keep_the_signs"),
    Mutant("signs that boxes forget", "propagation/preactivation.py", "_signed(here, passes.signs.get(index))",
           "_signed(here, None)", ("tests/complete/test_boxes.py",), "keep_the_signs"),
    Mutant("slopes of one piece alone", "activations/steepness.py",
           "most = tf.where(inside, tf.maximum(most, slope), most)", "most = tf.where(inside, slope, most)",
           ("tests/activations/test_steepness.py",), "steeper"),
    Mutant("changed weights added", "network/related.py", "return lambda: ours() - theirs()",
           "return lambda: ours() + theirs()", (RELATED,), "stay_live"),
    Mutant("numbers that points share differ", "network/related.py", "np.where(a == b, -1, places)", "places",
           (RELATED,), "share_are_left_out"),
    Mutant("rows over differences with the wrong sign", "network/related.py", "rest, theirs + share)",
           "rest, theirs - share)", (RELATED,), "rows_are"),
    Mutant("a half of a box lost", "complete/search/boxes.py", "((some.lower, low), (high, some.upper))",
           "((low, low), (high, some.upper))", ("tests/complete/test_boxes.py",), "parts_cover"),
    Mutant("a product above what it overflowed to", "propagation/product.py",
           "tf.where(known & tf.math.is_finite(low), low, -nothing)", "tf.where(known, low, -nothing)",
           (PRODUCT,), "overflows"),
    Mutant("a contraction's upper planes turned the wrong way", "propagation/contraction.py", "mx - 0.5 * high_x * dx",
           "mx + 0.5 * high_x * dx", (PRODUCT,), "one_by_one"),
    Mutant("the second factor without bounds", "network/graph.py",
           "isinstance(node, Nonlinear) for i in entering(node)}",
           "isinstance(node, Nonlinear) for i in entering(node)[:1]}", (PRODUCT,), "both_factors"),
    Mutant("planes of a product on the wrong side in programs", "complete/encoding/enclosed.py",
           "- facet.sign * level", "+ facet.sign * level", ("tests/complete/test_products.py",), "matrix_product"),
    Mutant("batch-norm's sign", "network/keras/layers.py", "shift = -read(statistics(layer)[0])",
           "shift = read(statistics(layer)[0])", (LAYERS,), "batch"),
    Mutant("same padding puts the odd row first", "network/keras/windows.py",
           "tuple((spare // 2, -(-spare // 2)) for spare in total)",
           "tuple((-(-spare // 2), spare // 2) for spare in total)", (LAYERS,), "conv2d"),
    Mutant("average pooling divides by the window", "network/keras/pools.py",
           "return np.minimum(start + window, size) - np.maximum(start, 0)", "return np.full(grid, window)",
           (LAYERS,), "pooling"),
    Mutant("activation dropped in the IR", "network/graph.py", "return node.activation.function(inputs[0])",
           "return inputs[0]", (f"{BOUND}[0]",)),
    Mutant("transposed kernel", "network/linear.py", "self._product(a, self.kernel(), self.in_shape, transposed=True)",
           "self._product(a, tf.reshape(self.kernel(), self.kernel().shape[::-1]), self.in_shape)", (f"{BOUND}[1]",)),
    Mutant("dilation of the other axis", "network/linear.py", "[1, *self.size, -1]), self.dilation)",
           "[1, *self.size, -1]), self.dilation[::-1])", (LAYERS,), "Conv2D"),
    Mutant("groups ignored", "network/linear.py", "* tf.constant(same_group, kernel.dtype)", "", (LAYERS,), "grouped"),
    Mutant("|W| without the absolute value", "network/linear.py",
           "return self._product(r, tf.abs(self.kernel()), self.out_shape)",
           "return self._product(r, self.kernel(), self.out_shape)", (f"{BOUND}[0]",)),
    Mutant("stride's rows off by one", "network/linear.py",
           "((0, end - spread.shape[axis + 1]) for axis, end",
           "((-1, end - spread.shape[axis + 1] + 1) for axis, end", (TOEPLITZ,)),
    Mutant("toeplitz strides off by one", "propagation/coefficients.py", "* conv.strides[axis]",
           "* (conv.strides[axis] + 1)", (TOEPLITZ,)),
    Mutant("mask dropped", "propagation/coefficients.py",
           "if self.patches is None or self.zero_outside or not self.patches.exceeds(self.shape):", "if True:",
           (PATCHES,), "double_conv"),
    Mutant("mask taken for granted behind a convolution", "propagation/coefficients.py",
           "shape=conv.in_shape, patches=larger, zero_outside=False)", "shape=conv.in_shape, patches=larger)",
           (FOLDING,), "padding_do"),
    Mutant("mask taken for granted behind padding", "propagation/coefficients.py",
           "shape=linear.in_shape, patches=larger, zero_outside=False)", "shape=linear.in_shape, patches=larger)",
           (BACKWARD,), "patches_give"),
    Mutant("a bias folded into lines and charged again", "propagation/backward.py",
           "with_bias=index not in self.biased | self.affine", "with_bias=index not in self.affine",
           (FOLDING,), "single"),
    Mutant("an affine branch without what the middle adds", "propagation/backward.py",
           "self.gain(rows, source)", "pass", (AFFINE,), "middle"),
    Mutant("weights of a window in another order", "propagation/stepping.py",
           "tf.transpose(image, [0, 1, 3, 2, 4, 5])", "image", (FOLDING,), "apart"),
    Mutant("a scaling by pixel folded by channel", "propagation/folding.py",
           "if math.prod(scale.shape) != (scale.shape[-1] if scale.shape.rank else 1):", "if False:",
           (FOLDING,), "pixel"),
    Mutant("ranges that a maximum reads left loose", "propagation/preactivation.py",
           "found |= _may_win(pool, lower, upper) if isinstance(pool, MaxPool) else lower < upper", "pass",
           (FOLDING,), "maximum_are"),
    Mutant("joined patches misaligned", "propagation/coefficients.py", "before = [patches.offset[a] - mine.offset[a]",
           "before = [0 * mine.offset[a]", (PATCHES,), "residual or projection"),
    Mutant("padding's offset lost", "network/moves.py",
           "Window((1, 1), (1, 1), (self.padding[0][0], self.padding[1][0]))",
           "Window((1, 1), (1, 1), (0, 0))", (PATCHES,), "padded_batch"),
    Mutant("missing bias", "propagation/stepping.py", "if node.bias is not None and with_bias:", "if False:",
           (LINEAR,)),
    Mutant("a residual branch dropped", "propagation/backward.py",
           "total = self.waiting[source].plus(rows)", "total = rows",
           (f"{BOUND}[2]",)),
    Mutant("selected rows of the wrong sample", "propagation/coefficients.py",
           "return Coefficients(flat, self.shape, None, self.owner // self.patches.positions)",
           "return Coefficients(flat, self.shape, None, 0 * self.owner)",
           (f"{BACKWARD}::test_selected_rows_equal_the_same_rows_of_the_full_pass",)),
    Mutant("lower slope dropped", "activations/relu.py", "return (longer, chord) if left <= 1",
           "return (0 * chord, chord) if left <= 1", (LINES,), "least_area and relu"),
    Mutant("upper line for the lower one", "activations/placing.py",
           "below = _extremum(act, lower_slope, lower, upper, 1.0)\n",
           "below = _extremum(act, lower_slope, lower, upper, -1.0)\n", (LINES,), "lines and relu"),
    Mutant("the kink is not a critical point", "activations/relu.py",
           "(tf.zeros_like(slope),),", "(),",
           (LINES,), "lines and relu"),
    Mutant("pool: min l for max l", "propagation/pooling.py", "return tf.reduce_max(self.low, axis=3)",
           "return tf.reduce_min(self.low, axis=3)", (POOLS,), "sampled"),
    Mutant("frown computed by the method it is asked of", "propagation/bounds.py",
           "return RELAXATIONS.load(relaxation), None", "return info.load(), None", (OPTIMISED,), "frown_gains"),
    Mutant("the catalog's stage of another method", "catalog.py", "StageSchema(method.name, where,",
           'StageSchema("crown", where,', ("tests/test_recipes.py",), "a_method"),
    Mutant("choices that do not reach their range", "propagation/open_lines.py", "least + place * width",
           "least + 0.25 * place * width", (OPTIMISED,), "best_slope"),
    Mutant("patches folded without their offset", "propagation/coefficients.py", "((-top, height - high + top)",
           "((0, height - high)", ("tests/propagation/test_lanes.py",), "fold"),
    Mutant("pool: weights of another entry below", "propagation/stepping.py",
           "row, column = divmod(entry, node.window[1])", "column, row = divmod(entry, node.window[1])",
           (f"{BACKWARD}::test_a_point_has_its_own_values_as_bounds_behind_a_maximum",)),
    Mutant("wrong dual norm for L1", "propagation/concretize.py", "tf.reduce_max(tf.abs(values), axis=3)",
           "tf.reduce_mean(tf.abs(values), axis=3)", (BALLS,), "dual"),
    Mutant("clipped L1 moves the wrong way", "propagation/concretize.py", "return tf.where(a > 0, -down, up)",
           "return tf.where(a > 0, up, -down)", (BALLS,), "least"),
    Mutant("clipped L2 forgets its multiplier", "propagation/concretize.py", "- 0.5 * m * budget", "",
           (BALLS,), "least"),
    Mutant(">= for > in the verdict", "verdict.py", "(margin > rounding)", "(margin >= rounding)",
           (ROUNDING,), "proves"),
    Mutant("an infinite margin certifies", "verdict.py", "(abs(margin) < math.inf) & ", "",
           (ROUNDING, SEARCH), "proves or search"),
    Mutant("the search forgets rounding", "propagation/radius.py", "good, fresh = is_proof(found, rounding)",
           "good, fresh = is_proof(found, 0.0)", (ROUNDING,), "radius"),
    Mutant("certify forgets rounding", "certification/api.py", "is_proof(margin, lost)",
           "is_proof(margin, 0.0)", (ROUNDING,), "deployed"),
    Mutant("a clause needs all of its rows", "clauses.py", "rows.max(axis=-1).min(axis=-1)",
           "rows.min(axis=-1).min(axis=-1)", ("tests/test_clauses.py",)),
    Mutant("a bound that is not finite counts", "clauses.py", "np.where(np.isfinite(each), each, unknown)", "each",
           ("tests/test_clauses.py",)),
    Mutant("rounding is taken from no margin", "clauses.py", "np.maximum(margin - surplus, 0.0)",
           "np.zeros(len(self))", ("tests/test_clauses.py",)),
    Mutant("solvers forget rounding", "complete/search/builder.py", "ways[-1].less(less), lost", "ways[-1], lost",
           ("tests/complete/test_decide.py",), "within_the_rounding"),
    Mutant("a witness on the boundary dropped", "complete/search/witness.py", "< 0 if self.broken is None else",
           "< 0 if True else", ("tests/driver/test_boundary.py",)),
    Mutant("the search returns its upper end", "propagation/radius.py",
           "RadiusSearch(state.low,", "RadiusSearch(np.where(np.isfinite(state.high), state.high, state.low),",
           (SEARCH,)),
    Mutant("hull rounded to nearest", "sets/balls.py",
           "return enclosing(low, high, self.x.dtype)", "return low.astype(self.x.dtype), high.astype(self.x.dtype)",
           (SETS,), "hull"),
    Mutant("the outer box is not rounded outward", "sets/rounding.py", "np.nextafter(wide - eps, -np.inf)",
           "wide - eps", ("tests/sets/test_rounding.py",)),
    Mutant("the inner box is not rounded inward", "sets/rounding.py", "np.nextafter(wide + eps, -np.inf)", "wide + eps",
           ("tests/sets/test_rounding.py",)),
    Mutant("decimal eps taken as a float", "sets/uneven.py", "return [Fraction(v) for v in values], None",
           "return [Fraction(float(v)) for v in values], None", (SETS,), "border"),
    Mutant("clip ignored by the hull", "sets/balls.py",
           "low, high = np.maximum(low, self.clip[0]), np.minimum(high, self.clip[1])", "pass",
           ("tests/propagation/test_methods.py",), "clip"),
    Mutant("last clause ignored in the lowering", "language/spec/lowering.py",
           "_clause(atoms, layout) for atoms in _conjuncts(normal))",
           "_clause(atoms, layout) for atoms in list(_conjuncts(normal))[:-1])", (LOWERING,)),
    Mutant("a feature without what is added to it", "language/spec/lowering.py", "shown.factor),), shown.offset)",
           "shown.factor),))", (POINTS,), "columns or written"),
    Mutant("features shown beside the wrong outputs", "language/spec/layout.py", "return self.outputs + place, shown",
           "return self.outputs + len(self.shown) - 1 - place, shown", (POINTS,), "columns or written"),
    Mutant("outputs of the application before", "language/spec/layout.py",
           "for number, size in enumerate(self.sizes[:of])",
           "for number, size in enumerate(self.sizes[:max(0, of - 1)])", (POINTS,), "side_by_side"),
    Mutant("one group too small for the largest outputs", "language/spec/normal_form.py",
           "chosen = f.count if positive else size - f.count", "chosen = f.count if positive else size - f.count - 1",
           (LOWERING,), "largest_outputs"),
    Mutant("a tie counts for the largest outputs", "language/spec/formula.py",
           "sum(o >= outputs[i] for o in outputs) <= count", "sum(o > outputs[i] for o in outputs) < count",
           (LOWERING,), "largest_outputs"),
    Mutant("an offset left out of the weights of probabilities", "network/probabilities.py",
           "np.asarray(given + offset - unit", "np.asarray(given - unit", (PROBABILITIES,)),
    Mutant("rounding of a softmax not taken from a row", "network/probabilities.py",
           "np.asarray(given + offset - unit * size - least * size.sum() - exact)", "np.asarray(given + offset)",
           (PROBABILITIES,)),
    Mutant("a ratio the wrong way round", "network/probabilities.py",
           "matrix[j, column], matrix[reference, column] = 1.0, -1.0",
           "matrix[j, column], matrix[reference, column] = -1.0, 1.0", (PROBABILITIES,)),
    Mutant("one pair of classes left out of the same class", "language/spec/normal_form.py",
           "for j in range(sizes[1]) if i != j]", "for j in range(sizes[1]) if i < j]", (POINTS,), "same_class"),
    Mutant("different classes by one network alone", "language/spec/normal_form.py",
           "for kind, of, size, place in zip(f.kinds, f.of, sizes, pair, strict=True)",
           "for kind, of, size, place in list(zip(f.kinds, f.of, sizes, pair, strict=True))[:1]",
           (POINTS,), "same_class"),
    Mutant("a tie at the sample is a class", "language/spec/formula.py",
           "return reached[0] if len(reached) == 1 else None", "return reached[0]", (POINTS,), "ties_at_the_sample"),
    Mutant("conditions on points forgotten", "language/check/questions.py", "claim if given is None else",
           "claim if True else", (POINTS,), "written"),
    Mutant("conditions on points turned round", "language/check/questions.py", "Or((Not(given), claim))",
           "Or((given, claim))", (POINTS,), "written"),
    Mutant("a premise forgotten", "language/check/questions.py", "formula if premise is None else",
           "formula if True else", (POINTS,), "premise"),
    Mutant("a premise turned round", "language/check/questions.py", "Or((Not(premise), formula))",
           "Or((premise, formula))", (POINTS,), "premise"),
    Mutant("a proof about no input counts", "driver/premises.py", "if met.outcome is Outcome.VERIFIED:",
           "if met.outcome is not Outcome.TIMEOUT:", ("tests/driver/test_premises.py",), "no_input"),
    Mutant("a shared number called by the wrong point", "language/check/quantified.py",
           "return agreement.one if feature.of == agreement.other else None",
           "return agreement.other if feature.of == agreement.one else None", (POINTS,), "one_name"),
    Mutant("excepted numbers are those that are shared", "language/spec/points.py",
           "(i in self.features) != self.others",
           "(i in self.features) == self.others", (POINTS,), "one_name"),
    Mutant("ends of probabilities swapped", "certification/softmax.py", ".sum(axis=2), 1 / np.exp(least).sum(axis=1)",
           ".sum(axis=1), 1 / np.exp(least).sum(axis=2)", ("tests/certification/test_api.py",), "two_probabilities"),
    Mutant("an overflow makes a probability certain", "certification/softmax.py",
           "np.where(np.isfinite(found), found, -np.inf)", "found", ("tests/certification/test_api.py",), "overflowed"),
    Mutant("lines beyond the domain", "activations/placing.py",
           "return tf.where(known, found, tf.where(slope == 0, limit, tf.constant(unknown, limit.dtype)))",
           "return found",
           (REGISTRATION,), "nothing_is_known"),
    Mutant("slopes beyond the domain", "activations/registry.py", "known &= self.declared(lower, upper)", "pass",
           (REGISTRATION,), "nothing_is_known"),
    Mutant("no function is taken to be computed through one", "network/keras/validation.py",
           "return 1.0 if activation.kinks is None", "return 0.0 if activation.kinks is None", (VALIDATION,),
           "computed_through_one"),
    Mutant("a clip far out excuses what follows", "network/keras/validation.py", "min(_FARTHEST, max(map(abs, ",
           "max(0.0, max(map(abs, ", (VALIDATION,), "overflow"),
    Mutant("a value that only the model has is let pass", "network/keras/validation.py",
           "if last and (unseen.all() or (unseen & self.known).any()):", "if last and unseen.all():",
           (VALIDATION,), "only_the_model"),
    Mutant("intervals left out of account", "propagation/preactivation.py",
           "tf.where(tf.math.is_nan(other), bound, tf.maximum(bound, other))", "bound",
           ("tests/propagation/test_methods.py",), "looser"),
    Mutant("a hinge's height cut in half", "complete/encoding/layers.py",
           "builder.rows([(w, 1.0), (a, -high)]", "builder.rows([(w, 1.0), (a, -high / 2)]",
           (ENCODING,), "every_layer"),
    Mutant("a maximum held down by its rivals", "complete/encoding/layers.py",
           "room = np.maximum(0.0, others", "room = 0.0 * (others", (ENCODING,), "every_layer"),
    Mutant("dual prices of the wrong sign", "complete/encoding/program.py", "np.minimum(prices, 0.0)", "prices",
           ("tests/complete/test_program.py",), "no_prices_lift"),
    Mutant("a solver's zero margin taken for a proof", "complete/search/decide.py",
           "if is_proof(bound, _POSITIVE * query.scale):", "if bound >= 0:",
           ("tests/complete/test_decide.py",), "zero"),
    Mutant("multipliers of the wrong sign", "propagation/splitting.py", "tf.nn.relu(m + scale * rate * move)",
           "-tf.nn.relu(m + scale * rate * move)", (SPLITTING,), "multipliers"),
    Mutant("signs cut the wrong end", "propagation/splitting.py",
           "lower = tf.where(signs[target] > 0, tf.maximum(lower, 0), lower)",
           "upper = tf.where(signs[target] > 0, tf.minimum(upper, 0), upper)", (SPLITTING,), "no_input_of_a_piece"),
    Mutant("terms added twice", "propagation/backward.py", "here = here.plus(term)",
           "here = here.plus(replace(term, values=-term.values))",
           (SPLITTING,), "helps"),
    Mutant("half of a set left out", "complete/search/branch.py", "for sign in (1, -1):", "for sign in (1,):",
           ("tests/complete/test_branch.py",), "must_split"),
    Mutant("kappa weighs the robust loss", "training/step.py",
           "kappa * self._classification(labelled, logits) + (1.0 - kappa) * robust()",
           "(1.0 - kappa) * self._classification(labelled, logits) + kappa * robust()",
           ("tests/training/test_losses.py",)),
    Mutant("widths of one side", "training/regularizers.py", "tf.square(upper - lower), [-1, size]",
           "tf.square(upper), [-1, size]", ("tests/training/test_losses.py",)),
    Mutant("an edge in the cell below it", "activations/cells.py", 'side="right"', 'side="left"',
           (CELLS,), "exact_arithmetic"),
    Mutant("a cell beyond the top one", "activations/cells.py", "keepdims=True) - 2", "keepdims=True) - 1",
           (CELLS,), "room_for_finer"),
    Mutant("a cell too many", "network/abstraction.py", "return math.ceil((high - low)",
           "return 1 + math.ceil((high - low)", (CELLS,), "closed and outside"),
    Mutant("inputs computed with before cells", "propagation/interval.py", "else moved_inputs(network)\n",
           "else frozenset()\n", ("tests/propagation/test_moved_inputs.py",), "nothing"),
    Mutant("copies not added up", "network/copies.py", "tf.reduce_sum(apart, axis=-3)", "tf.reduce_max(apart, axis=-3)",
           (CELLS,), "added_up"),
    Mutant("half a cell too low", "network/abstraction.py", "tf.concat([-half, half]", "tf.concat([-half, 0.0 * half]",
           (CELLS,), "added_up"),
    Mutant("a step's binary of the wrong sign", "complete/encoding/layers.py",
           "builder.rows([(z.column, 1.0), (binary, below - upper)], below)",
           "builder.rows([(z.column, 1.0), (binary, upper - below)], below)", (STEPS,), "satisfy"),
    Mutant("a step less high", "complete/encoding/layers.py", "rise = np.where(on, ",
           "rise = 0.5 * np.where(on, ", (STEPS,), "satisfy"),
    Mutant("a solver's side of an edge ignored", "complete/encoding/variables.py", "near = np.abs(value - at) <= SHORT",
           "near = np.abs(value - at) < 0", (STEPS,), "its_side"),
    Mutant("a tie counts as right", "clauses.py", "(own > others)", "(own >= others)",
           ("tests/training/test_abstraction.py",), "tie"),
    Mutant("the declared range read in the ball's own space", "language/spec/regions.py",
           "return self.within_space or self.space", "return self.space", (UNITS,), "declared"),
    Mutant("the declared range goes before what is written", "language/check/balls.py",
           "if node.within is None and setting.range is not None", "if setting.range is not None", (UNITS,), "range"),
    Mutant("a radius for each input in another order", "language/check/balls.py", "shares=tuple(factors))",
           "shares=tuple(factors[::-1]))", ("tests/language/test_radii_by_input.py",), "order_of_the_inputs"),
    Mutant("a radius for all inputs where each has its own", "driver/overlaps.py",
           "(e * s for e, s in zip(eps, frame.each(ball.shares), strict=True)) if ball.shares else eps", "eps",
           ("tests/driver/test_regions.py",), "each_its_own"),
    Mutant("two ones of a group", "language/spec/pieces.py", "Fraction(int(i in ones))", "Fraction(1)", (JOINED,),
           "pieces_are_the_region"),
    Mutant("a patch that leaves out the edge", "language/spec/places.py", "[*range(0, last, self.step), last]",
           "[*range(0, max(last, 1), self.step)]", (JOINED,), "both_edges"),
    Mutant("a few numbers less", "language/spec/places.py", "itertools.combinations(free, min(self.number, len(free)))",
           "itertools.combinations(free, min(self.number - 1, len(free)))", (JOINED,), "few_numbers"),
    Mutant("whole numbers without the last", "language/spec/pieces.py", "range(first, last + 1)", "range(first, last)",
           (JOINED,), "pieces_are_the_region or whole_numbers"),
    Mutant("a maximum of inputs needs all of them", "language/spec/alternatives.py",
           '(inner.kind == "max") == (coefficient > 0)', '(inner.kind == "max") != (coefficient > 0)',
           (POINTS,), "union_of_their_alternatives"),
    Mutant("a maximum stays one whatever it is multiplied with", "language/spec/alternatives.py", "largest != turned",
           "largest", (POINTS,), "union_of_their_alternatives"),
    Mutant("a piece that is open told by the reason of another", "driver/piecewise.py",
           "least = min(open_, key=lambda v: (not math.isnan(v.margin), v.margin, v.outcome is not Outcome.TIMEOUT))",
           "least = open_[0]", ("tests/driver/test_piecewise.py",), "tells_of_one_piece"),
    Mutant("only the first alternative", "language/spec/alternatives.py", "return _few(dict.fromkeys(itertools.chain",
           "return every[0] if every else _few(dict.fromkeys(itertools.chain", (POINTS,),
           "union_of_their_alternatives"),
    Mutant("a verdict of pieces with the level of one", "driver/piecewise.py",
           "guarantee=weakest(v.guarantee for v in verdicts)", "guarantee=narrowest.guarantee",
           ("tests/driver/test_piecewise.py",), "weakest"),
    Mutant("a point is near another in network space", "driver/neighbours.py",
           "radius * abs(point.transform.stored(i)[0])", "radius", ("tests/driver/test_neighbours.py",), "grid"),
    Mutant("a value takes nothing of a round ball", "driver/slices.py", "left = 1 - sum(", "left = 1 - 0 * sum(",
           ("tests/driver/test_piecewise.py",), "sliced"),
    Mutant("a factor of the sample counts once", "language/spec/normal_form.py",
           "scale = coefficient * evaluate_term(factor, (), self._given)", "scale = coefficient",
           ("tests/language/test_powers_and_products.py",), "scale_outputs"),
    Mutant("conditions count for what is close", "complete/search/query.py", "self._real & ~self.conditions & ",
           "self._real & ", ("tests/complete/test_limited_clauses.py",), "how_large"),
    Mutant("the halves of a piece have its whole share", "driver/share.py", "whole.share * (1 - part)", "whole.share",
           (SHARES,), "line_is_exact"),
    Mutant("what is open is no part of a share", "driver/share.py", "1.0 - self._counted[False] + doubt",
           "self._counted[True] + doubt", (SHARES,), "line_is_exact or never_counted"),
    Mutant("any assertion judges a property", "language/check/asserting.py", "if q.kind in JUDGING_QUANTITIES", "",
           ("tests/driver/test_judge.py",), "made_green"),
    Mutant("a part that holds anyway judges a property", "language/spec/assertions.py",
           "if condition.judge(Quantity.prior) is None", "", ("tests/language/test_assertions.py",),
           "takes_no_judgement"),
    Mutant("a share compared with a measure is a number", "language/check/quantities.py", "QuantitySum(shares=number)",
           "QuantitySum(constant=number)", ("tests/language/test_assertions.py",), "measures_are_judged"),
    Mutant("a pass is begun whatever time it takes", "driver/stages/bound.py",
           "if self._pass[size] < left:", "if True:", ("tests/driver/test_verdicts.py",), "no_pass_is_begun"),
    Mutant("preparation counts as a sample's time", "driver/budget.py", "self._idle + self._now() - began",
           "self._idle", ("tests/driver/test_stages.py",), "stands_still or no_time_left"),
    Mutant("an attack does not look at the clock", "attacks/gradient.py", "if left <= max(0.0, pace):", "if False:",
           ("tests/attacks/test_attacks.py",), "time_is_up"),
    Mutant("a claim of a stage is a proof", "driver/property.py", "finding.outcome is Outcome.VERIFIED and proven",
           "finding.outcome is Outcome.VERIFIED", ("tests/driver/test_stages.py",), "proves_nothing"),
    Mutant("a sample outside of a box is its witness", "driver/property.py", "held.contains(centers)", "True",
           ("tests/driver/test_existential_verdicts.py",), "outside_of_a_box"),
    Mutant("what does not depend on the network is verified", "driver/bind.py", "if count == len(task.labels):",
           "if False:", ("tests/driver/test_class_sets.py",), "does_not_matter"),
    Mutant("nothing decided passes", "language/spec/assertions.py", "(verdict and self.undecided(results))", "False",
           ("tests/driver/test_judge.py",), "no_sample or finds_nothing"),
    Mutant("percentages are hundredths", "language/check/values.py", '(Fraction(1, 100), "%")',
           '(Fraction(1, 100), "")', (UNITS,), "percentage"),
    Mutant("a row of probabilities is a label", "given.py", "if not one_hot.all():", "if not rows.any():",
           ("tests/test_given.py",), "no_label"),
    Mutant("validation by intervals under the name of evaluations", "training/model.py",
           "logs[HELD_OUT] = logs.pop(self._verified.name)", "pass", ("tests/training/test_callbacks.py",),
           "names_of_their_own"),
    Mutant("a new optimizer sends eps back", "training/model.py", "self.steps_before += int(before.iterations)", "pass",
           ("tests/training/test_saving.py",), "another_optimizer"),
    Mutant("gradients of ends swapped", "training/abstraction.py", "return self.upper <= 0 <= self.lower",
           "return self.lower <= 0 <= self.upper", ("tests/training/test_abstraction.py",), "wider"),
    Mutant("what nearly cancels is added up", "network/simplify.py",
           "if not (all((f >= 0).all() for f in factors) or all((f <= 0).all() for f in factors)):", "if False:",
           (SIMPLE,), "model_rounds"),
    Mutant("a value and half of it cancel", "network/simplify.py", "bool((factors[0] == -factors[1]).all())",
           "bool((factors[0] * factors[1] < 0).all())", (SIMPLE,), "model_rounds"),
    Mutant("two moves in the other order", "network/simplify.py", "[first.order[axis] for axis in second.order]",
           "[second.order[axis] for axis in first.order]", (SIMPLE,), "moved_once"),
    Mutant("layers of equal options are one", "network/simplify.py", "cells = tuple(same(_content(cell), inside) for",
           "cells = tuple(type(_content(cell)).__name__ for", (SIMPLE,), "differ"),
    Mutant("a constant is read once", "network/simplify.py",
           "def value() -> tf.Tensor:\n        known = [nodes.value(i) for i in node.inputs]",
           "def value(known=[nodes.value(i) for i in node.inputs]) -> tf.Tensor:", (SIMPLE,), "stay_live"),
    Mutant("constants that count samples", "network/keras/fixed.py",
           "if same.shape != two.shape or not bool(tf.reduce_all(same == two)):", "if False:", (FIXED,), "refused"),
    Mutant("single channels' kernel turned", "network/linear.py",
           "[[0, 0], [i, height - i], [j, width - j], [0, 0]]", "[[0, 0], [height - i, i], [width - j, j], [0, 0]]",
           ("tests/network/test_depthwise.py",), "plain"),
    Mutant("McCormick's planes without what they lose", "propagation/product.py",
           "offset(lower) - lost, upper, offset(upper) + lost", "offset(lower), upper, offset(upper)",
           (MIXED,), "exact_optimum"),
    Mutant("the upper plane of a product by the lower one's choice", "propagation/product.py",
           "upper = (my + below * dy, mx + below * dx), (my + above * dy, mx - above * dx)",
           "upper = (my + below * dy, mx + below * dx), (my + above * dy, mx + above * dx)", (MIXED,), "exact_optimum"),
    Mutant("an interval of products without two of its corners", "propagation/product.py",
           "tf.minimum(tf.minimum(corners[0], corners[1]), tf.minimum(corners[2], corners[3]))",
           "tf.minimum(corners[0], corners[3])", (MIXED,), "exact_range"),
    Mutant("a chosen plane of products takes the other side", "propagation/product.py",
           "values * mx + (low - high) * dx", "values * mx + (low + high) * dx", (MIXED,), "exact_optimum"),
    Mutant("results about another model are gone on from", "driver/folder.py",
           "require_same(self.header_path, self._read_header(), header, IDENTITY)", "pass",
           ("tests/driver/test_journal.py",), "of_another_run"),
    Mutant("a program's own term dropped", "propagation/errors.py",
           "gamma(count, rounding.deployed)", "0.0", (TERMS,), "errs_as_much"),
    Mutant("gamma halved", "roundoff.py", "return size / (1.0 - size)", "return 0.5 * size / (1.0 - size)",
           (TERMS,), "errs_as_much"),
    Mutant("an interval rounded inward", "propagation/ranges.py", "reach += sum_of_terms_error(",
           "reach -= sum_of_terms_error(", (TERMS,), "every_node"),
    Mutant("products are taken to be fused", "propagation/errors.py", "gamma(extra, rounding.deployed)",
           "0.0", (TERMS,), "one_product"),
    Mutant("partial sums are taken to be no larger than the sum", "propagation/errors.py",
           "up(0.5 * partial) + size * up(each + known * partial)", "up(partial) + size * up(each)", (TERMS,),
           "cancel"),
    Mutant("a bias that is folded into a sum is rounded once", "propagation/errors.py",
           "if node.folded and bias is not None:", "if False:", (TERMS,), "folded"),
    Mutant("folded weights are taken to be in range", "propagation/errors.py", "(few * spread) * terms", "few * terms",
           (TERMS,), "folded_weight"),
    Mutant("folded weights are taken not to overflow", "propagation/errors.py",
           "growth * weights < rounding.largest", "weights < rounding.largest", (TERMS,), "folded_weight"),
    Mutant("sums of nodes are taken not to overflow", "propagation/errors.py",
           "return limited(size, rounding) * up(share)", "return size * up(share)", (TERMS,), "overflow_on_the_way"),
    Mutant("a ball's terms without its radius", "propagation/errors.py", "node.map.abs_apply(self.size) + length",
           "node.map.abs_apply(self.size)", (TERMS,), "ball"),
    Mutant("layers of a residual block are not charged with its sum", "propagation/gathered.py",
           "total += found if scale", "total += 0 * found if scale", (TERMS,), "residual_block"),
    Mutant("layers of a residual block are charged twice", "propagation/gathered.py", "paid.add(source)", "pass",
           (TERMS,), "residual_block"),
    Mutant("the logarithm of a sum errs as its softpluses do", "network/builder.py",
           "self._ones(), 1), size=size,", "self._ones(), 1),", ("tests/network/test_charged.py",), "logarithm"),
    Mutant("a factor's rows are taken to be exact", "propagation/affine.py", "share = gamma(values + 8, rounding.own)",
           "share = 0.0", (AFFINE,), "charged"),
    Mutant("evaluate by the optimiser's bound", "propagation/ascent.py",
           "if climb.claim is not None:", "if False:",
           ("tests/propagation/test_rounded_passes.py",), "early_layer"),
    Mutant("|W| m without the bias", "propagation/errors.py", "size += tf.abs(bias())", "pass",
           (TERMS,), "errs_as_much"),
    Mutant("operands are not flushed", "propagation/errors.py", "few = flushed + (", "few = (",
           (DECEIVED,), "small"),
    Mutant("products with the mean are exact", "propagation/normalized.py",
           "lost += 1.01 * gamma(8.2, v) * size * root", "pass", (NORMS,), "mean_are_charged"),
    Mutant("a program normalises exactly", "propagation/normalized.py", "lost = unit * largest + 32 * tiny",
           "lost = 0.0 * largest", (NORMS,), "square_root_and_product"),
    Mutant("planes of a normalisation are exact", "propagation/normalized.py", "return box.unit * (24 * scaled",
           "return 0.0 * (24 * scaled", (NORMS,), "ranges_rows"),
    Mutant("planes of log odds are exact", "propagation/log_odds.py", "return own + 2.02 *", "return 2.02 *",
           (NORMS,), "ranges_rows"),
    Mutant("a softmax subtracts its largest number exactly", "propagation/log_odds.py",
           "2.02 * rounding.deployed * apart", "0.0 * apart", (NORMS,), "largest_number_is_charged"),
    Mutant("a product's range is exact", "propagation/product.py",
           "unit, lost = 1.01 * rounding.deployed + 4 * rounding.own", "unit, lost = 0.0", (KINDS,), "any_order"),
    Mutant("a step of lines is exact", "propagation/slack.py", "return slack._replace(amount=raised(amount + lost, ",
           "return slack._replace(amount=raised(amount, ", (SLACK,), "charged_for_the_program"),
    Mutant("terms of planes that cancel add up to nothing on the way", "propagation/slack.py",
           "within = 0.5 * size + 0.5 * tf.minimum(whole, size)", "within = tf.minimum(whole, size)", (SLACK,),
           "cancel"),
    Mutant("planes are over a ball without its radius", "propagation/slack.py", "eps[:, None] * _dual(", "0.0 * _dual(",
           (SLACK,), "over_a_ball"),
    Mutant("a wide bound is rounded to nearest", "propagation/widening.py", "return rounded_down(linear_lower_bounds(",
           "return (lambda x, dtype: tf.cast(x, dtype))(linear_lower_bounds(", (WIDE,), "points_have"),
    Mutant("a wide pass is exact", "propagation/widening.py", "found.charge(index)", "pass", (WIDE,), "points_have"),
    Mutant("prices of curves without their kernels' ulps", "complete/encoding/layers.py",
           "found = lines(act, slopes, *tensors, encoding.rounding)", "found = lines(act, slopes, *tensors)",
           (PRICES,), "hold_exactly"),
    Mutant("other pieces have one pair of lines", "complete/encoding/layers.py", "if more is not None:", "if False:",
           ("tests/complete/test_rounded.py",), "pieces_of_other_slopes"),
    Mutant("points are looked for in the room of rows", "complete/search/query.py", "relax=relax, room=room)",
           "relax=relax, room=True)", ("tests/complete/test_rounded.py",), "without_the_room"),
    Mutant("a minimum's search stops where rounding first takes a proof", "complete/search/minimum.py",
           "self.lost = min(self.lost, radius)", "return False", ("tests/complete/test_minimum.py",),
           "as_rounding_leaves"),
)  # fmt: skip


def run(mutant: Mutant, scratch: Path) -> tuple[str, float]:
    """``killed``, ``SURVIVED``, or why the mutant could not be run, and the seconds it took."""
    begin = time.monotonic()
    home = scratch / str(MUTANTS.index(mutant))
    package = home / "tfcert"
    shutil.copytree(ROOT / "tfcert", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "grammar", package / "grammar", dirs_exist_ok=True)
    file = package / mutant.file
    text = file.read_text()
    if mutant.old not in text:
        return "DOES NOT APPLY", 0.0
    file.write_text(text.replace(mutant.old, mutant.new, 1))
    found = _pytest(home, mutant)
    return _verdict(found), time.monotonic() - begin


def _pytest(home: Path, mutant: Mutant) -> subprocess.CompletedProcess:
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *mutant.tests]
    command += ["-k", mutant.only] if mutant.only else []
    environment = os.environ | {"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _verdict(found: subprocess.CompletedProcess) -> str:
    """Tests that fail kill; tests that are not found, or cannot be collected, prove nothing."""
    match found.returncode:
        case 0:
            return "SURVIVED"
        case 1:
            return "killed"
        case _:
            return f"NO TESTS RAN: {(found.stdout + found.stderr).strip()[-120:]}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("words", nargs="*")
    options = parser.parse_args(arguments)
    chosen = [m for m in MUTANTS if not options.words or any(w in m.name for w in options.words)]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        width = max(len(m.name) for m in chosen)
        bad = 0
        for mutant, (verdict, seconds) in zip(chosen, pool.map(lambda m: run(m, Path(scratch)), chosen), strict=True):
            bad += verdict != "killed"
            print(f"{mutant.name:<{width}}  {mutant.file:<30}  {verdict}  {seconds:.0f} s", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} mutants killed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
