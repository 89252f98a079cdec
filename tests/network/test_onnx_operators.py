"""Every option of ONNX's operators, in the oldest and the newest version that has it, against onnxruntime.

Each line is a family of tiny models: what is read computes what onnxruntime computes, on points that the comparison on
load does not use, and what is not read is refused in a sentence. Nothing is traced.
"""

import itertools

import numpy as np
import pytest
from onnx_models import model, node, rng

from tfcert.network.cache import network_of
from tfcert.network.errors import FrontendMismatchError, ModelLoadError, UnsupportedLayerError
from tfcert.network.onnx.arithmetic import FUNCTIONS
from tfcert.network.onnx.model import NEWEST, OLDEST
from tfcert.network.onnx.supported import operators
from tfcert.network.onnx.values import OPERATORS

E = "@"
IMAGE, ROW, LONG = (1, 2, 6, 5), (1, 4), 1 << 62
ints = lambda *n: np.array(n, np.int64)  # noqa: E731
few = lambda *n: np.array(n, np.float32)  # noqa: E731


def every(kind, inputs, options, shape=IMAGE, opsets=(11, NEWEST)):
    """A model for each choice of options, each a list of values (None: left out), in each version."""
    for values in itertools.product(*options.values()):
        chosen = {name: value for name, value in zip(options, values, strict=True) if value is not None}
        for opset in opsets:
            yield opset, shape, (node(kind, [E, *inputs], **chosen),)


def one(*nodes, shape=IMAGE, opsets=(13, NEWEST)):
    for opset in opsets:
        yield opset, shape, nodes


def gemms():
    for turned, left, alpha, beta in itertools.product((0, 1), (0, 1), (1.0, 0.5), (1.0, -2.0, 0.0)):
        shape, matrix = ((4, 2) if left else (2, 4)), rng(*((3, 4) if turned else (4, 3)))
        options = {"transA": left, "transB": turned, "alpha": alpha, "beta": beta}
        yield from one(node("Gemm", [E, matrix, rng(2, 3)], **options), shape=shape, opsets=(7, 13))
    for added in (np.array(1.5), rng(3), rng(1, 3), rng(2, 1), rng(1)):
        yield from one(node("Gemm", [E, rng(4, 3), added]), shape=(2, 4), opsets=(7, NEWEST))
    yield from one(node("Gemm", [rng(4, 2), E, rng(3)], transA=1, transB=1, beta=2.0), shape=(3, 4))
    yield from one(node("Relu", [E], "r"), node("Gemm", ["r", rng(3, 3), "x"], beta=0.5, alpha=2.0), shape=(2, 3))


def products():
    for shape, matrix in (((4,), (4, 3)), (ROW, (4,)), ((1, 2, 3, 4), (4, 3)), ((1, 2, 3, 4), (1, 2, 4, 3))):
        yield from one(node("MatMul", [E, rng(*matrix)]), shape=shape)
    for shape, matrix in (((4,), (3, 4)), ((1, 4, 2), (3, 4)), ((1, 4, 2), (4,)), ((4, 2), (3, 4))):
        yield from one(node("MatMul", [rng(*matrix), E]), shape=shape)


def pairs():
    shapes = ((ROW, ROW), (ROW, ()), (IMAGE, (2, 1, 1)), ((1, 1, 4), (3, 1)), ((4,), (2, 4)), (ROW, (1, 1, 2, 4)))
    for kind, (shape, other) in itertools.product(("Add", "Sub", "Mul", "Div"), shapes):
        numbers = rng(*other) + 3 if other else np.array(2.5)
        yield from one(node(kind, [E, numbers]), shape=shape, opsets=(7, NEWEST))
        if kind != "Div":
            yield from one(node(kind, [numbers, E]), shape=shape, opsets=(7,))
    for kind in ("Max", "Min", "Sum", "Mean"):
        yield from one(node(kind, [rng(4), E, rng(3, 1)]), shape=(1, 3, 4), opsets=(8, NEWEST))
        yield from one(node(kind, [E]), shape=ROW)
    for exponent in (2.0, 3.0, 0.5, 1.0, 0.0, -1.0, 2.5):
        yield from one(node("Exp", [E]), node("Pow", [E, np.array(exponent)]), shape=ROW, opsets=(7, NEWEST))


def windows():
    for auto, stride in itertools.product(("SAME_UPPER", "SAME_LOWER", "VALID"), ([1, 1], [2, 1], [3, 2])):
        yield from every("Conv", [rng(3, 2, 3, 2)], {"auto_pad": [auto], "strides": [stride]}, opsets=(7, NEWEST))
    yield from every("Conv", [rng(6, 2, 3), rng(6)], {"group": [2], "dilations": [[1], [2]]}, (1, 4, 7))
    yield from every("Conv", [rng(4, 1, 2, 2, 2)], {"group": [2], "strides": [[2, 1, 2]]}, (1, 2, 4, 4, 4))
    for size, stride, apart in itertools.product((1, 2, 3), (1, 2, 3), (1, 2)):
        options = {"strides": [[stride] * 2], "dilations": [[apart] * 2], "pads": [[0, 1, 1, 0]]}
        more = {"output_padding": [[0, 0], [stride - 1, 0]]}
        yield from every("ConvTranspose", [rng(2, 3, size, 2)], options | more, (1, 2, 3, 4), (11,))
    options = {"auto_pad": ["SAME_UPPER", "SAME_LOWER", "VALID"], "strides": [[1, 1], [2, 2]], "group": [1, 2]}
    yield from every("ConvTranspose", [rng(4, 3, 3, 2)], options, (1, 4, 3, 4))
    yield from every("ConvTranspose", [rng(2, 3, 3)], {"output_shape": [[7], [8]], "strides": [[2]]}, (1, 2, 4))


def pools():
    options = {
        "kernel_shape": [[2, 2], [3, 2]], "strides": [None, [2, 2], [3, 1]],
        "pads": [None, [1, 0, 0, 1], [1, 1, 1, 1]], "ceil_mode": [None, 1],
    }  # fmt: skip
    yield from every("MaxPool", [], options, opsets=(10, NEWEST))
    yield from every("AveragePool", [], options, opsets=(10, NEWEST))
    yield from every("AveragePool", [], options | {"ceil_mode": [None], "count_include_pad": [1]}, opsets=(7, NEWEST))
    auto = {"kernel_shape": [[3, 2]], "auto_pad": ["SAME_UPPER", "SAME_LOWER", "VALID"], "strides": [[1, 2], [3, 2]]}
    yield from every("MaxPool", [], auto, opsets=(7, NEWEST))
    yield from every("AveragePool", [], auto | {"count_include_pad": [0, 1]}, opsets=(7, NEWEST))
    for kind, shape in itertools.product(("GlobalAveragePool", "GlobalMaxPool"), ((1, 2, 5), IMAGE, (1, 2, 2, 3, 2))):
        yield from one(node(kind, [E]), shape=shape, opsets=(7, NEWEST))


def shapes():
    for axis in (0, 1, 2, 4, -1):
        yield from one(node("Flatten", [E], axis=axis))
    for wanted in ((0, -1), (0, 0, -1), (-1,), (60, 1), (2, -1, 3), (1, 0, -1)):
        yield from one(node("Reshape", [E, ints(*wanted)]), node("Relu", [E]), opsets=(7, NEWEST))
    for order in (None, [0, 2, 3, 1], [3, 2, 1, 0], [1, 0, 2, 3]):
        yield from every("Transpose", [], {"perm": [order]}, opsets=(7, NEWEST))
    once = (1, 4, 1)
    yield from one(node("Squeeze", [E], axes=[2]), shape=once, opsets=(7,))
    yield from one(node("Squeeze", [E, ints(-1, 0)]), node("Relu", [E]), shape=once)
    yield from one(node("Squeeze", [E]), node("Relu", [E]), shape=once, opsets=(7, NEWEST))
    yield from one(node("Unsqueeze", [E], axes=[0, 2]), shape=ROW, opsets=(7,))
    yield from one(node("Unsqueeze", [E, ints(-1, 1)]), shape=ROW)
    yield from one(node("Expand", [E, ints(2, 3, 1)]), shape=(1, 1, 4), opsets=(8, NEWEST))
    yield from one(node("Tile", [E, ints(1, 2, 1, 3)]), opsets=(7, NEWEST))
    start = node("Shape", [E], "s", start=-2), node("Concat", [ints(2), "s"], "t", axis=0), node("Reshape", ["x", "t"])
    yield from one(*start, opsets=(15, NEWEST))


def places():
    spans = (
        (1, 3, 2, 1), (-3, -1, 2, 1), (0, 6, 2, 2), (-1, -100, 2, -1), (5, -LONG, 2, -2), (4, 1, 2, -1),
        (100, 0, 2, -2), (2, LONG, 3, 1), (1, 3, -1, 1), (-100, 3, 2, 1), (3, -7, 2, -1), (3, -6, 2, -1),
    )  # fmt: skip
    for span in spans:
        yield from one(node("Slice", [E, *(ints(n) for n in span)]), opsets=(10, NEWEST))
    yield from one(node("Slice", [E, ints(0, 0), ints(1, 2), "", ints(1, 1)]))
    yield from one(node("Slice", [E], starts=[0, 0, 1], ends=[1, 2, -1]), opsets=(7,))
    for index, axis in ((ints(2, 0, 2), 2), (ints(-1, -4), -1), (np.array([[0, 1], [2, 3]]), 2), (np.array(1), 1)):
        yield from one(node("Gather", [E, index], axis=axis), node("Relu", [E]), opsets=(11, NEWEST))
    sums = node("Gather", ["a", ints(0)], "c", axis=1), node("Sub", ["b", "c"])
    yield from one(node("Split", [E], "a b", axis=1, num_outputs=2), *sums, shape=(1, 5), opsets=(18, NEWEST))
    uneven = node("Split", [E], "a b c d", axis=-1, num_outputs=4), node("Concat", ["a", "d", "b"], axis=1)
    yield from one(*uneven, shape=(1, 10), opsets=(18, NEWEST))
    yield from one(node("Split", [E], "a b", axis=1, split=[1, 3]), node("Add", ["b", "a"]), shape=ROW, opsets=(7,))
    yield from one(node("Split", [E, ints(1, 3)], "a b", axis=-1), node("Add", ["b", "a"]), shape=ROW)
    for axis in (0, 1, -1):
        yield from one(node("Relu", [E], "a"), node("Concat", ["a", "x"], axis=axis), opsets=(11, NEWEST))
    zeros = ints(0, 0, 1, 2, 0, 0, 0, -1)
    yield from one(node("Pad", [E], pads=zeros.tolist()), opsets=(7,))
    yield from one(node("Pad", [E, zeros, np.array(0.0)]), opsets=(11, NEWEST))
    yield from one(node("Pad", [E, ints(1, 2, 0, 1), "", ints(3, -2)]), opsets=(18, NEWEST))


def reductions():
    for kind, keep in itertools.product(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"), (0, 1)):
        given = (13, NEWEST) if kind == "ReduceSum" else (18, NEWEST)
        yield from every(kind, [], {"axes": [[2, 3], [-1], None], "keepdims": [keep]}, opsets=(11,))
        for axes in (ints(1, -1), ints()):
            yield from one(node(kind, [E, axes], keepdims=keep), opsets=given)
        for more in ([ints()], []):
            nothing = node(kind, [E, *more], keepdims=keep, noop_with_empty_axes=1)
            yield from one(nothing, node("Relu", [E]), opsets=given)


def resizes():
    square = (1, 1, 4, 4)
    for places, rounds in (
        ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"),
    ):  # fmt: skip
        options = {"mode": ["nearest"], "coordinate_transformation_mode": [places], "nearest_mode": [rounds]}
        yield from every("Resize", ["", few(1, 1, 2, 3)], options, square, (13, NEWEST))
        yield from every("Resize", ["", "", ints(1, 1, 8, 12)], options, square, (13, NEWEST))
    yield from one(node("Resize", [E, few(1, 1, 2, 2)]), shape=square, opsets=(10,))
    yield from one(node("Upsample", [E], scales=[1.0, 1.0, 2.0, 3.0]), shape=square, opsets=(7,))
    yield from one(node("Upsample", [E, few(1, 1, 2, 3)]), shape=square, opsets=(9,))


def functions():
    options = {
        "LeakyRelu": {"alpha": [None, 0.3, -0.5, 1.5]}, "Elu": {"alpha": [None, 2.0]},
        "HardSigmoid": {"alpha": [None, 0.1]}, "Selu": {"alpha": [None]},
        "Clip": {"min": [None, -0.5], "max": [None, 0.7]},
    }  # fmt: skip
    for kind, chosen in options.items():
        yield from every(kind, [], chosen, ROW, (7,))
    yield from every("Celu", [], {"alpha": [None, 0.3]}, ROW, (12, NEWEST))
    yield from every("Gelu", [], {"approximate": [None, "tanh"]}, ROW, (20, NEWEST))
    for slope in (np.array(0.3), rng(2, 1, 1), rng(5), rng(2, 6, 5)):
        yield from one(node("PRelu", [E, slope]), opsets=(7, NEWEST))
    for ends in ([np.array(-0.5)], ["", np.array(0.7)], [np.array(0.0), np.array(6.0)]):
        yield from one(node("Clip", [E, *ends]), shape=ROW, opsets=(11, NEWEST))
    for shape, size in ((IMAGE, 2), (ROW, 4), ((1, 2, 7), 2)):
        numbers = [rng(size), rng(size, seed=1), rng(size, seed=2), 1 + rng(size) ** 2]
        yield from one(node("BatchNormalization", [E, *numbers], epsilon=0.01), shape=shape, opsets=(7, 9, 15, NEWEST))
    for kind, axis in itertools.product(("Softmax", "LogSoftmax"), (1, -1)):
        yield from one(node(kind, [E], axis=axis), shape=(1, 2, 3), opsets=(13, NEWEST))
        yield from one(node(kind, [E]), shape=ROW, opsets=(7, 11))


def left_as_they_are():
    yield from one(node("Cast", [E], to=1), node("Identity", [E]), shape=ROW, opsets=(9, NEWEST))
    yield from one(node("Dropout", [E], ratio=0.3), shape=ROW, opsets=(7,))
    yield from one(node("Dropout", [E, np.array(0.3), np.array(False)]), shape=ROW)
    yield from one(node("Cast", [ints(1, 2, 3, 4)], "c", to=1), node("Mul", ["x", "c"]), shape=ROW)
    yield from one(node("ConstantOfShape", [ints(1, 4)], "c"), node("Sub", ["x", "c"]), shape=ROW)
    yield from one(node("Constant", [], "c", value_floats=[1.0, 2.0, 3.0, 4.0]), node("Add", ["x", "c"]), shape=ROW)


FAMILIES = (
    gemms, products, pairs, windows, pools, shapes, places, reductions, resizes, functions, left_as_they_are,
)  # fmt: skip


def compared(opset, shape, nodes):
    """Holds the network's answers against onnxruntime's, on other points than the comparison on load."""
    made = model(list(shape), *nodes, opset=opset)
    network = network_of(made)
    x = np.random.default_rng(1).normal(size=(2, *made.input_shape)).astype(np.float32)
    expected, found = made.run(x), network(x).numpy().reshape(2, -1)
    if network.peeled:
        found = np.exp(found - np.log(np.exp(found).sum(axis=1, keepdims=True)))
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5), (opset, shape, nodes)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_options_mean_what_onnxruntime_makes_of_them(family):
    """A dozen of each family; the sweep has them all."""
    models = list(family())
    for each in models[:: len(models) // 13 + 1]:
        compared(*each)


@pytest.mark.sweep
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_all_options_mean_what_onnxruntime_makes_of_them(family):
    for each in family():
        compared(*each)


SQUARE, TWICE = (1, 1, 4, 4), few(1, 1, 2, 2)
REFUSED = [
    (13, SQUARE, node("Resize", [E, "", TWICE], mode="nearest", nearest_mode=rounds, **places))
    for rounds, places in (
        ("ceil", {}), ("floor", {}), ("floor", {"coordinate_transformation_mode": "align_corners"}),
        ("floor", {"coordinate_transformation_mode": "pytorch_half_pixel"}),
    )
] + [
    (13, SQUARE, node("Resize", [E, "", few(1, 1, 1.5, 2)])),
    (13, SQUARE, node("Resize", [E, "", TWICE], mode="cubic")),
    (9, SQUARE, node("Upsample", [E, TWICE], mode="linear")),
    (18, SQUARE, node("Resize", [E, "", few(2, 2)], axes=[2, 3])),
    *((13, IMAGE, node("Pad", [E, ints(0, 0, 1, 0, 0, 0, 0, 1)], mode=mode)) for mode in ("reflect", "edge")),
    (19, IMAGE, node("Pad", [E, ints(0, 0, 1, 0, 0, 0, 0, 1)], mode="wrap")),
    (13, IMAGE, node("Pad", [E, ints(0, 0, 1, 0, 0, 0, 0, 1), np.array(2.5)])),
    (13, IMAGE, node("AveragePool", [E], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1)),
    (13, IMAGE, node("MaxPool", [E], kernel_shape=[2, 2], dilations=[2, 2])),
    (7, IMAGE, node("BatchNormalization", [E, *[np.abs(rng(2, 6, 5))] * 4], spatial=0)),
    (11, (1, 2, 3), node("Softmax", [E])), (13, ROW, node("Clip", [E, np.array(0.7), np.array(-0.5)])),
    (13, ROW, node("Pow", [E, rng(4)])), (13, ROW, node("Pow", [np.array(2.0), E])),
    (13, ROW, node("Div", [E, few(1, 0, 1, 1)])),
    *((13, ROW, node(kind, [E])) for kind in ("Round", "Floor", "Ceil", "Tan", "LpNormalization")),
    *((13, ROW, node("Cast", [E], to=to)) for to in (7, 9, 10, 11, 16)),
    (7, ROW, node("Selu", [E], alpha=1.0)), (13, IMAGE, node("LRN", [E], size=3)),
    (17, (1, 3, 4), node("LayerNormalization", [E, rng(4), rng(4)])),
    (13, IMAGE, node("InstanceNormalization", [E, rng(2), rng(2)])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("opset", "shape", "call"), REFUSED, ids=lambda part: part[0] if isinstance(part, tuple) else ""
)
def test_options_without_a_translation_are_refused(opset, shape, call):
    with pytest.raises(UnsupportedLayerError, match="n0"):
        network_of(model(list(shape), call, opset=opset))


def test_every_operator_has_a_line():
    """An operator that is added without one here or in `test_onnx.py` is noticed."""
    from test_onnx import CASES

    met = {kind for family in FAMILIES for _, _, nodes in family() for kind, *_ in nodes}
    met |= {kind for _, *nodes in CASES.values() for kind, *_ in nodes} | set(FUNCTIONS)
    assert set(OPERATORS) <= met


def test_types_of_numbers_are_those_that_proofs_are_about():
    """What is said of operators against what bounds are charged for: a rounding that is not known is `real` alone."""
    from test_onnx import CASES

    assert set(operators()) == set(OPERATORS)
    lines = [(13, shape, nodes) for shape, *nodes in CASES.values()]
    lines += [(20, ROW, (node("Gelu", [E]),)), *((18, ROW, (node(kind, [E]),)) for kind in FUNCTIONS)]
    lines += [(18, ROW, (node("Abs", [E], "a"), node("Div", [E, "a"])))]
    unknown = set()
    for opset, shape, nodes in lines:
        kinds = {kind for kind, *_ in nodes}
        try:
            network = network_of(model(list(shape), *nodes, opset=opset))
        except (UnsupportedLayerError, FrontendMismatchError, ModelLoadError):
            continue  # of another version, or infinite on every probe
        if any(part.uncharged for part in network.nodes):
            assert any(operators()[kind] == ("real",) for kind in kinds if kind in OPERATORS), kinds
            unknown |= kinds
    finite = {kind for kind, types in operators().items() if types == ("real",)} - {"Log", "Sqrt"}
    assert finite <= unknown


def test_versions_that_are_not_known_are_refused():
    for opset in (OLDEST - 1, NEWEST + 1):
        with pytest.raises(UnsupportedLayerError, match=f"version {opset}"):
            model([1, 4], node("Relu", [E]), opset=opset)
