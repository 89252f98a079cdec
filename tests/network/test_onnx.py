"""ONNX models are read, compared with onnxruntime, bounded and attacked; what is not known is refused."""

import numpy as np
import pytest
from onnx_models import DOUBLE, build, model, node, onnx, rng

import tfcert
from tfcert.network.cache import network_of
from tfcert.network.errors import FrontendMismatchError, ModelLoadError, UnsupportedLayerError
from tfcert.network.onnx import arithmetic
from tfcert.network.onnx.model import OnnxModel
from tfcert.network.onnx.values import OPERATORS
from tfcert.propagation.supported import not_supported

E = "@"
SHAPE, IMAGE = (1, 4), (1, 2, 6, 5)
ints = lambda *n: np.array(n, np.int64)  # noqa: E731

CASES = {
    "gemm": (SHAPE, node("Gemm", [E, rng(4, 3), rng(3)])),
    "gemm of transposes": (SHAPE, node("Gemm", [E, rng(3, 4), rng(1, 3)], transB=1, alpha=0.5, beta=-2.0)),
    "gemm of columns": (SHAPE, node("Gemm", [E, rng(1, 2)], transA=1)),
    "gemm without bias": (SHAPE, node("Gemm", [E, rng(4, 3)])),
    "bias as an addition": (SHAPE, node("MatMul", [E, rng(4, 3)]), node("Add", [E, rng(3)]), node("Relu", [E])),
    "bias first": (SHAPE, node("MatMul", [E, rng(4, 3)]), node("Add", [rng(3), E])),
    "matrix from the left": ((1, 4, 2), node("MatMul", [rng(3, 4), E])),
    "vector": ((4,), node("MatMul", [E, rng(4, 3)]), node("Relu", [E])),
    "matrix times vector": ((4,), node("MatMul", [rng(3, 4), E])),
    "products": ((1, 3, 3), node("Transpose", [E], "t", perm=[0, 2, 1]), node("MatMul", ["x", "t"])),
    "normalised": (SHAPE, node("Sub", [E, rng(4)]), node("Div", [E, 1 + rng(4) ** 2]), node("Mul", [E, rng(1, 4)])),
    "constant minus": (SHAPE, node("Sub", [rng(4), E]), node("Neg", [E])),
    "broadcast to more": ((1, 1, 4), node("Add", [E, rng(3, 1)])),
    "two tensors": (SHAPE, node("Gemm", [E, rng(4, 4)], "a"), node("Mul", ["a", "x"]), node("Sub", [E, "a"])),
    "same names": (SHAPE, node("Relu", [E], "a"), node("Add", ["a", "x"])),
    "three sums": (SHAPE, node("Abs", [E], "a"), node("Sum", ["x", "a", rng(4)]), node("Mean", [E, "a"])),
    "max": (SHAPE, node("Max", [E, rng(4), np.zeros(1)]), node("Min", [E, "x"])),
    "power": (SHAPE, node("Pow", [E, np.array(2.0)])),
    "batch norm": (IMAGE, node("BatchNormalization", [E, rng(2), rng(2), rng(2), 1 + rng(2) ** 2], epsilon=0.01)),
    "batch norm of numbers": (SHAPE, node("BatchNormalization", [E, rng(4), rng(4), rng(4), 1 + rng(4) ** 2])),
    "clip": (SHAPE, node("Clip", [E, np.array(-0.5), np.array(1.0)])),
    "clip from below": (SHAPE, node("Clip", [E, np.array(-0.5)])),
    "clip from above": (SHAPE, node("Clip", [E, "", np.array(0.5)])),
    "leaky relu": (SHAPE, node("LeakyRelu", [E], alpha=0.3)),
    "elu": (SHAPE, node("Elu", [E], alpha=0.5), node("Celu", [E], alpha=2.0), node("Selu", [E])),
    "hard sigmoid": (SHAPE, node("HardSigmoid", [E]), node("HardSigmoid", [E], alpha=0.25, beta=0.4)),
    "prelu": (IMAGE, node("PRelu", [E, rng(2, 1, 1)])),
    "conv": (IMAGE, node("Conv", [E, rng(3, 2, 3, 2), rng(3)], strides=[2, 1], pads=[1, 0, 0, 2])),
    "conv of groups": (IMAGE, node("Conv", [E, rng(4, 1, 2, 2)], group=2, dilations=[2, 1])),
    "conv, same": (IMAGE, node("Conv", [E, rng(3, 2, 2, 4)], auto_pad="SAME_UPPER", strides=[2, 2])),
    "conv, same, lower": (IMAGE, node("Conv", [E, rng(3, 2, 2, 4)], auto_pad="SAME_LOWER")),
    "convs": (IMAGE, node("Conv", [E, rng(3, 2, 2, 2)]), node("Relu", [E]), node("Conv", [E, rng(2, 3, 2, 2)])),
    "conv of a sequence": ((1, 2, 7), node("Conv", [E, rng(3, 2, 3), rng(3)], pads=[1, 2], strides=[2])),
    "conv of a volume": ((1, 1, 3, 4, 3), node("Conv", [E, rng(2, 1, 2, 2, 2)])),
    "transposed conv": (
        (1, 2, 3, 4),
        node("ConvTranspose", [E, rng(2, 3, 3, 2), rng(3)], strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0]),
    ),
    "transposed conv of a sequence": ((1, 2, 4), node("ConvTranspose", [E, rng(2, 3, 3)], strides=[2])),
    "max pool": (IMAGE, node("MaxPool", [E], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])),
    "max pool, rounded up": (IMAGE, node("MaxPool", [E], kernel_shape=[2, 2], strides=[4, 2], ceil_mode=1)),
    "max pool of a sequence": ((1, 2, 7), node("MaxPool", [E], kernel_shape=[2])),
    "average pool": (IMAGE, node("AveragePool", [E], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])),
    "average pool, counted": (
        IMAGE, node("AveragePool", [E], kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1)
    ),
    "average pool, rounded up": (IMAGE, node("AveragePool", [E], kernel_shape=[2, 2], strides=[4, 2], ceil_mode=1)),
    "global pools": (IMAGE, node("GlobalAveragePool", [E], "a"), node("GlobalMaxPool", ["x"]), node("Add", [E, "a"])),
    "flatten": (IMAGE, node("Flatten", [E]), node("MatMul", [E, rng(60, 3)])),
    "flatten later": (IMAGE, node("Flatten", [E], axis=2), node("MatMul", [E, rng(30, 3)])),
    "reshape": (IMAGE, node("Reshape", [E, ints(0, -1, 4)]), node("MatMul", [E, rng(4, 2)])),
    "transpose": (IMAGE, node("Transpose", [E], perm=[0, 2, 3, 1]), node("MatMul", [E, rng(2, 2)])),
    "transpose of the batch": (SHAPE, node("Transpose", [E]), node("MatMul", [E, rng(1, 2)])),
    "squeeze": (SHAPE, node("Unsqueeze", [E, ints(0, 3)]), node("Squeeze", [E, ints(0)]), node("Mul", [E, rng(4, 1)])),
    "squeeze all": (SHAPE, node("Squeeze", [E]), node("Mul", [E, rng(4)])),
    "expand": ((1, 1, 4), node("Expand", [E, ints(1, 3, 4)]), node("Mul", [E, rng(3, 4)])),
    "slice": (IMAGE, node("Slice", [E, ints(1, -1), ints(9, -9), ints(2, 3), ints(2, -1)])),
    "slices": (SHAPE, node("Slice", [E, ints(0), ints(2), ints(1)], "a"),
               node("Slice", ["x", ints(2), ints(4), ints(1)]),
               node("Add", [E, "a"])),
    "gather": (SHAPE, node("Gather", [E, ints(2, 0, 2)], axis=1), node("Mul", [E, rng(3)])),
    "gather one": (SHAPE, node("Gather", [E, np.array(-1)], axis=1)),
    "split": (SHAPE, node("Split", [E, ints(1, 3)], "a b", axis=1), node("Add", ["a", "b"])),
    "concat": (IMAGE, node("Relu", [E], "a"), node("Concat", ["a", "x"], axis=1), node("Conv", [E, rng(1, 4, 2, 2)])),
    "concat of batches": (SHAPE, node("Relu", [E], "a"), node("Concat", ["a", "x"], axis=0),
                          node("MatMul", [E, rng(4, 2)])),
    "concat with numbers": (SHAPE, node("Concat", [E, rng(1, 2)], axis=1)),
    "pad": (IMAGE, node("Pad", [E, ints(0, 1, 1, 0, 0, 0, 2, 1)])),
    "crop": (IMAGE, node("Pad", [E, ints(0, 0, -1, 0, 0, 0, 0, -2)])),
    "reduce": (IMAGE, node("ReduceMean", [E], axes=[2], keepdims=0), node("ReduceSum", [E, ints(1)])),
    "reduce nothing": (SHAPE, node("ReduceSum", [E], noop_with_empty_axes=1), node("Abs", [E])),
    "reduce all": (SHAPE, node("ReduceMax", [E], keepdims=0)),
    "resize": (IMAGE, node("Resize", [E, "", np.array([1.0, 1.0, 2.0, 3.0])], mode="nearest")),
    "softmax": (SHAPE, node("Gemm", [E, rng(4, 3)]), node("Softmax", [E])),
    "softmax inside": (SHAPE, node("Softmax", [E]), node("MatMul", [E, rng(4, 2)])),
    "log softmax": (SHAPE, node("LogSoftmax", [E], axis=1)),
    "identities": (SHAPE, node("Identity", [E]), node("Cast", [E], to=1), node("Dropout", [E]), node("Relu", [E])),
    "shape arithmetic": (
        IMAGE, node("Shape", [E], "s"), node("Gather", ["s", ints(0)], "b"),
        node("Concat", ["b", ints(-1)], "t", axis=0),
        node("Reshape", ["x", "t"]), node("MatMul", [E, rng(60, 2)]),
    ),
    "folded weights": (SHAPE, node("Exp", [rng(4, 3)], "w"), node("Transpose", ["w"], "v"),
                       node("Gemm", ["x", "v"], transB=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_network_computes_what_onnxruntime_does(name):
    """``from_onnx`` compares every node; here the network's answers are compared once more, on other points."""
    shape, *nodes = CASES[name]
    made = model(list(shape), *nodes)
    network = network_of(made)
    x = np.random.default_rng(1).normal(size=(3, *made.input_shape)).astype(np.float32)
    expected, found = made.run(x), network(x).numpy().reshape(3, -1)
    if network.peeled:
        found = np.exp(found - np.log(np.exp(found).sum(axis=1, keepdims=True)))
    assert network.input_shape == made.input_shape
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(arithmetic.FUNCTIONS))
def test_functions_of_single_numbers(kind):
    opset = {"Mish": 18, "HardSwish": 14}.get(kind, 13)
    made = model([1, 3], node("Abs", [E]), node("Add", [E, np.ones(1)]), node(kind, [E]), opset=opset)
    x = rng(5, 3)
    assert np.allclose(network_of(made)(x).numpy(), made.run(x), rtol=1e-5, atol=1e-6)


def test_float64_and_an_open_batch_and_older_operators():
    made = model([None, 4], node("Gemm", [E, rng(4, 3).astype(float)]), node("Tanh", [E]), kind=DOUBLE)
    network, x = network_of(made), rng(5, 4).astype(np.float64)
    assert made.together and network.dtype.as_numpy_dtype == np.float64
    assert np.allclose(network(x).numpy(), made.run(x), rtol=1e-12)
    old = model(
        [1, 4], node("Slice", [E], axes=[1], starts=[1], ends=[3]), node("Clip", [E], min=0.0, max=1.0), opset=7
    )
    assert np.allclose(network_of(old)(rng(5, 4)).numpy(), old.run(rng(5, 4)))
    resized = model([1, 1, 2, 2], node("Upsample", [E], scales=[1.0, 1.0, 2.0, 2.0]), opset=7)
    assert np.array_equal(network_of(resized)(rng(1, 1, 2, 2)).numpy().ravel(), resized.run(rng(1, 1, 2, 2))[0])


def test_samples_do_not_mix_in_a_model_whose_batch_is_open_but_that_takes_one():
    """A model that flattens its batch answers two samples in one row: they must be run one at a time."""
    made = model([None, 4], node("Reshape", [E, ints(1, -1)]), node("ReduceSum", [E, ints(1)]))
    assert not made.together
    x = rng(3, 4)
    assert np.allclose(made.run(x)[:, 0], x.sum(axis=1), rtol=1e-5)


REFUSED = {
    "operator": ([1, 4], [node("Floor", [E])], "Floor"),
    "training": ([1, 4], [node("Dropout", [E, np.array(0.5), np.array(True)])], "training"),
    "rounded type": ([1, 4], [node("Cast", [E], to=10), node("Cast", [E], to=1)], "type"),
    "padding": ([1, 4], [node("Pad", [E, ints(0, 1, 0, 1), np.array(3.0)])], "zeros"),
    "reflection": ([1, 4], [node("Pad", [E, ints(0, 1, 0, 1)], mode="reflect")], "reflect"),
    "bilinear": ([1, 1, 2, 2], [node("Resize", [E, "", np.array([1.0, 1.0, 2.0, 2.0])], mode="linear")], "linear"),
    "resize by ceilings": (
        [1, 1, 2, 2],
        [node("Resize", [E, "", np.array([1.0, 1.0, 2.0, 2.0])], nearest_mode="ceil")],
        "ceil",
    ),
    "random": ([1, 4], [node("RandomNormal", [], "r", shape=[1, 4]), node("Add", ["x", "r"])], "random"),
    "open image": ([1, 2, None, 4], [node("Relu", [E])], "open"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused_with_the_reason(name):
    shape, nodes, said = REFUSED[name]
    with pytest.raises(UnsupportedLayerError, match=said):
        network_of(model(shape, *nodes))


def test_an_attribute_that_nothing_reads_is_refused():
    """An option of a newer version must not be overlooked."""
    proto = build([1, 4], node("Relu", [E]))
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("slope", 0.5))
    with pytest.raises(UnsupportedLayerError, match="slope"):
        network_of(OnnxModel(proto))


def test_a_translation_that_is_wrong_is_noticed(monkeypatch):
    """The comparison on load: a converter that reads LeakyRelu as a ReLU does not get through."""
    monkeypatch.setitem(OPERATORS, "LeakyRelu", lambda call: (call.get("alpha"), OPERATORS["Relu"](call))[1])
    monkeypatch.setitem(arithmetic.FUNCTIONS, "LeakyRelu", "relu")
    with pytest.raises(FrontendMismatchError, match="n0"):
        network_of(model([1, 4], node("LeakyRelu", [E], alpha=0.1)))


def test_a_model_whose_samples_mix_is_noticed():
    """Every sample less the mean of its batch: alone it is zero, and in a batch it is not."""
    with pytest.raises(FrontendMismatchError, match="output"):
        network_of(
            model([None, 4], node("ReduceMean", [E], axes=[0]), node("Sub", ["x", E]), node("Add", [E, np.ones(4)]))
        )


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"nothing of that kind")
    with pytest.raises(ModelLoadError, match="cannot load"):
        tfcert.load_model(tmp_path / "a.onnx")
    proto = build([1, 4], node("Relu", [E]), opset=7)
    proto.opset_import[0].version = 6
    onnx.save(proto, tmp_path / "b.onnx")
    with pytest.raises(UnsupportedLayerError, match="version 6"):
        tfcert.load_model(tmp_path / "b.onnx")


@pytest.fixture
def saved(tmp_path):
    """``[x0 - x1, x1 - x0]`` after a ReLU of both, in a file."""
    matrix = np.array([[1, -1], [-1, 1]], np.float32)
    onnx.save(build([None, 2], node("Relu", [E]), node("Gemm", [E, matrix])), tmp_path / "clf.onnx")
    np.savez(tmp_path / "d.npz", x=np.array([[0.9, 0.1], [0.2, 0.7]], np.float32), y=[0, 1])
    return tmp_path


def test_a_model_of_a_file_is_certified_as_any_other(saved):
    loaded = tfcert.load_model(saved / "clf.onnx")
    x, y = (np.load(saved / "d.npz")[key] for key in "xy")
    assert np.allclose(tfcert.certify(loaded, x, y, eps=0.1).margin, [1.2, 0.6], atol=1e-5)
    assert np.allclose(tfcert.certified_radius(loaded, x, y).radius, [0.4, 0.25], rtol=1e-2)


@pytest.mark.parametrize(("kind", "level"), [("Relu", "float32-any-order"), ("Tanh", "numeric"), ("Exp", "numeric")])
def test_a_function_of_another_runtime_is_not_claimed_as_deployed(kind, level):
    """Catches errors measured of TensorFlow's kernels that stand for onnxruntime's."""
    made = model([1, 3], node("Gemm", [E, rng(3, 3)]), node(kind, [E]), node("Gemm", [E, rng(3, 2)]))
    x = rng(2, 3).astype(np.float32)
    assert tfcert.certify(made, x, made.run(x).argmax(axis=1), eps=1e-2).guarantee == level
    assert ("onnxruntime rounds" in not_supported(network_of(made))) == (level == "numeric")


@pytest.fixture
def two():
    """Two inputs, whose hidden sum has two outputs."""
    helper, weights = (
        onnx.helper,
        {"w": rng(2, 4), "v": rng(3, 4, seed=1), "u": rng(4, 3, seed=2), "t": rng(4, 1, seed=3)},
    )
    calls = (("MatMul", "a w", "p"), ("MatMul", "b v", "q"), ("Add", "p q", "s"), ("Relu", "s", "h"),
             ("MatMul", "h u", "big"), ("MatMul", "h t", "small"))  # fmt: skip
    nodes = [helper.make_node(kind, given.split(), [made], name=f"n_{made}") for kind, given, made in calls]
    ins, outs = (
        [helper.make_tensor_value_info(name, 1, [None, size]) for name, size in sizes]
        for sizes in ((("a", 2), ("b", 3)), (("big", 3), ("small", 1)))
    )
    held = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ins, outs, held), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    return OnnxModel(proto), weights


def test_several_inputs_outputs_and_layers_are_those_of_the_file(two):
    """Catches inputs that are taken apart in another order, and outputs or layers that are other values."""
    model, weights = two
    a, b = rng(5, 2), rng(5, 3)
    hidden = np.maximum(a @ weights["w"] + b @ weights["v"], 0)
    answers = {"big": hidden @ weights["u"], "small": hidden @ weights["t"]}
    x = np.concatenate([a, b], axis=1)
    assert tfcert.network.inputs_of(model).names == ["a", "b"] and model.together
    with pytest.raises(UnsupportedLayerError, match="with_output"):
        network_of(model)
    parts = [(tfcert.with_output(model, name), answers[name]) for name in answers]
    parts += [(tfcert.with_output(model, "all"), np.concatenate(list(answers.values()), axis=1))]
    parts += [(tfcert.network.with_layer(model, name), hidden) for name in ("n_h", "h")]
    for part, expected in parts:
        network = network_of(part)
        assert network.parts == model.parts
        assert np.allclose(network(x), expected, atol=1e-5) and np.allclose(part.run(x), expected, atol=1e-5)
    assert len({part.digest for part, _ in parts}) == 4  # the layer is one value under two names
    with pytest.raises(ValueError, match="no output 'large'"):
        tfcert.with_output(model, "large")
    with pytest.raises(ValueError, match="0 values of a layer"):
        tfcert.network.with_layer(model, "large")


def test_several_inputs_are_certified_by_name(two, eager):
    big = tfcert.with_output(two[0], "big")
    given = {"a": rng(3, 2), "b": rng(3, 3)}
    y = big.run(np.concatenate(list(given.values()), axis=1)).argmax(axis=1)
    fixed = tfcert.certify(big, given, y, eps={"a": 1e-3, "b": 0})
    assert fixed.verified.all() and (tfcert.certify(big, given, y, eps=1e-3).margin <= fixed.margin).all()
    found = tfcert.attack(big, given, y, eps=3.0)
    assert found.success.any() and set(found.witness) == {"a", "b"}


def test_a_specification_names_it(saved):
    (saved / "s.prop").write_text(
        'prop 1\nmodel clf = onnx("clf.onnx") { outputs: logits }\ndataset d = npz("d.npz") { range: [0, 1] }\n'
        "strategy s = pgd -> crown\n"
        "property near(x, y in d) using s { forall z in ball(x, linf, 0.1) in unit: argmax(clf(z)) == y }\n"
        "property far(x, y in d) using s { forall z in ball(x, linf, 0.9) in unit: argmax(clf(z)) == y }\n"
    )
    report = tfcert.verify(saved / "s.prop", out=saved / "out", verbose=0)
    outcomes = [str(r.verdict.outcome) for r in report.records]
    assert outcomes == ["verified", "verified", "falsified", "falsified"]
