"""Reading a ``.keras`` file: its archive, the layers' options, their weights. What is not known is refused.

Written from the format alone (Keras 3: ``config.json`` and ``model.weights.h5`` in a zip archive).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ProofError
from .files import LARGEST_MODEL, Weights, archive, parsed_json
from .functions import FUNCTIONS, Function, elu, pieces
from .graph import Affine, Bent, Beside, Building, Entry, Graph, Largest, Total
from .maps import Convolution, Map, Matrix, Mean, Moved, Scale, Windows

Options = Mapping[str, Any]
_LAYERS = 10_000
_PLAIN = """
    name trainable dtype batch_shape batch_input_shape sparse ragged optional synchronized momentum rate seed
    noise_shape stddev renorm renorm_momentum renorm_clipping data_format
"""
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")
"""Options that change nothing of what a trained layer computes, or that are read for every layer."""
_SAME = "Dropout SpatialDropout1D SpatialDropout2D GaussianNoise GaussianDropout ActivityRegularization"


def read_model(path: Path) -> Graph:
    """The graph of a ``.keras`` file.

    Raises:
        ProofError: it cannot be read, or has a layer or an option that the checker does not know.
    """
    members = archive(path, LARGEST_MODEL)
    for name in ("config.json", "model.weights.h5"):
        if name not in members:
            raise ProofError(f"{path} has no {name}: it is no Keras 3 model")
    config = parsed_json(members["config.json"](), f"{path}: config.json")
    weights = Weights(members["model.weights.h5"](), f"{path}: model.weights.h5")
    try:
        return _Reader(config, weights).graph()
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise ProofError(f"{path}: the options of its layers are not as Keras writes them: {error!r}") from None


class _Reader:
    """Goes through the layers in an order in which each reads earlier ones."""

    def __init__(self, config: Options, weights: Weights):
        self._config, self._weights, self._made = config, weights, Building()
        self._done: dict[tuple[str, int, int], int] = {}
        self._softmax = ""  # the layer, if any
        self._dtypes: set[str] = set()

    def graph(self) -> Graph:
        whole = self._config
        kind, config = whole["class_name"], whole["config"]
        if kind not in ("Sequential", "Functional") or not str(whole.get("module", "keras")).startswith("keras"):
            raise ProofError(f"a model of class {kind!r} is not known")
        layers = config["layers"]
        if not 0 < len(layers) <= _LAYERS or len({layer["config"]["name"] for layer in layers}) < len(layers):
            raise ProofError("the model has no layers, too many, or two of one name")
        self._places = dict(_weight_places(layers))
        output = self._in_a_row(layers) if kind == "Sequential" else self._wired(config)
        if len(self._dtypes) != 1:
            raise ProofError(f"layers compute in {sorted(self._dtypes)}: one type is known")
        if len(self._made.places[output].shape) != 1:
            raise ProofError(f"outputs of shape {self._made.places[output].shape}: one axis of outputs is known")
        return self._made.finished(output, self._dtypes.pop(), bool(self._softmax))

    def _in_a_row(self, layers: list[Any]) -> int:
        last = -1
        for layer in layers:
            last = self._layer(layer, [] if last < 0 else [last])
        return last

    def _wired(self, config: Options) -> int:
        inputs, outputs = _ends(config["input_layers"]), _ends(config["output_layers"])
        if len(inputs) != 1 or len(outputs) != 1:
            raise ProofError(f"a model with {len(inputs)} inputs and {len(outputs)} outputs is not known")
        # Its input comes first: it is place 0.
        todo = sorted(((layer, i) for layer in config["layers"] for i in range(max(1, len(layer["inbound_nodes"])))),
                      key=lambda pair: pair[0]["config"]["name"] != inputs[0][0])  # fmt: skip
        while todo:
            left = []
            for layer, number in todo:
                nodes = layer["inbound_nodes"]
                sources = _tensors(nodes[number]) if nodes else []
                if all(source in self._done for source in sources):
                    found = self._layer(layer, [self._done[source] for source in sources])
                    self._done[layer["config"]["name"], number, 0] = found
                else:
                    left.append((layer, number))
            if len(left) == len(todo):
                raise ProofError("the layers are wired in a circle, or read what there is not")
            todo = left
        if self._softmax and self._softmax != outputs[0][0]:
            raise ProofError("a softmax that is not the model's last layer is not known")
        return self._done[outputs[0]]

    def _layer(self, layer: Options, sources: list[int]) -> int:
        kind, options = layer["class_name"], layer["config"]
        name = options["name"]
        if layer.get("registered_name") or not str(layer.get("module", "")).startswith("keras.layers"):
            raise ProofError(f"layer {name!r} is a {kind}, which is no layer of Keras's own")
        if self._softmax:
            raise ProofError(f"layer {name!r} reads a softmax, which is known at the end of a model alone")
        self._dtypes.add(_dtype(options["dtype"]))
        if kind == "InputLayer":
            if self._made.places or options.get("sparse") or options.get("ragged"):
                raise ProofError(f"layer {name!r}: one input that is dense is known")
            shape = tuple((options.get("batch_shape") or options["batch_input_shape"])[1:])
            if not all(isinstance(n, int) for n in shape) or not shape:
                raise ProofError(f"layer {name!r}: inputs of shape {shape} are not fixed")
            return self._made.add(Entry(name=name, inputs=(), shape=shape))
        if kind in _SAME.split() and len(sources) == 1:
            return sources[0]
        if kind not in _KINDS:
            raise ProofError(f"layer {name!r} is a {kind}, which is not known")
        read, known = _KINDS[kind]
        unknown = [
            key
            for key, value in options.items()
            if not (value is None or key.endswith(_OF_TRAINING) or key in f"{_PLAIN} {known}".split())
        ]
        if unknown or options.get("data_format") not in (None, "channels_last"):
            raise ProofError(f"layer {name!r}: what {unknown or ['data_format']} do is not known")
        if not sources or (len(sources) > 1 and kind not in ("Add", "Concatenate")):
            raise ProofError(f"layer {name!r} reads {len(sources)} places")
        return read(self, options, *sources)

    # Layers: options and places read to the place of their output.

    def _refusal(self, options: Options, what: str) -> ProofError:
        return ProofError(f"layer {options['name']!r}: {what}")

    def _arrays(self, options: Options, *shapes: tuple[int, ...]) -> list[np.ndarray]:
        found = self._weights.of(self._places[options["name"]], options["name"], shapes)
        if any(array.dtype != np.dtype(_dtype(options["dtype"])) for array in found):
            raise self._refusal(options, "weights are stored in another type than it computes in")
        return found

    def _shape(self, source: int) -> tuple[int, ...]:
        return self._made.places[source].shape

    def _affine(self, options: Options, source: int, map: Map, bias: Any, *says: Any, **more: Any) -> int:
        b = np.zeros(map.out[-1]) if bias is None else bias.astype(np.float64)
        more.setdefault("bias_size", np.abs(b))
        place = Affine(name=options["name"], inputs=(source,), shape=map.out, map=map, bias=b, **more)
        return self._made.add(place, type(map).__name__, b, *says)

    def dense(self, options: Options, source: int) -> int:
        shape, units = self._shape(source), _whole(options, "units")
        shapes = [(shape[-1], units), *[(units,)] * bool(options["use_bias"])]
        kernel, bias, *_ = *self._arrays(options, *shapes), None
        return self.activation(options, self._affine(options, source, Matrix(shape, kernel), bias, kernel))

    def convolution(self, options: Options, source: int) -> int:
        windows, channels = self._windows(options, source, "kernel_size"), self._shape(source)[-1]
        apart = "filters" not in options
        filters = 1 if apart else _whole(options, "filters")
        if (options.get("groups", 1), options.get("depth_multiplier", 1)) != (1, 1):
            raise self._refusal(options, "groups, and a depth_multiplier other than 1, are not known")
        size, count = _pair(options["kernel_size"]), channels if apart else filters
        shapes = [(*size, channels, filters), *[(count,)] * bool(options["use_bias"])]
        kernel, bias, *_ = *self._arrays(options, *shapes), None
        map = Convolution(windows, kernel, apart)
        return self.activation(options, self._affine(options, source, map, bias, kernel, windows.said))

    def normalization(self, options: Options, source: int) -> int:
        """``gamma (x - mean) / sqrt(variance + epsilon) + beta``, with the scale and the bias that programs make of it.

        The program's scale is off by 8 roundings at most: epsilon's and the sum's, which the root halves, up to 6 of
        the root and its inverse (or of an approximate inverse root), and gamma's product. 16 are charged for each term
        that it is multiplied with.
        """
        shape, epsilon = self._shape(source), float(options["epsilon"])
        if options["axis"] not in (-1, len(shape), [-1], [len(shape)]):
            raise self._refusal(options, f"axis {options['axis']!r} is not the last one")
        arrays = self._arrays(options, *[shape[-1:]] * (2 + bool(options["scale"]) + bool(options["center"])))
        variance, mean = arrays.pop().astype(np.float64), arrays.pop().astype(np.float64)
        gamma = arrays.pop(0).astype(np.float64) if options["scale"] else np.ones_like(mean)
        beta = arrays.pop(0).astype(np.float64) if options["center"] else np.zeros_like(mean)
        spread = variance + epsilon
        if not (0 <= epsilon <= 1e30 and ((spread >= 1e-30) & (spread <= 1e30)).all()):
            raise self._refusal(options, "variances and epsilon do not add up to numbers that are known")
        factors = gamma / np.sqrt(spread)
        if not (np.abs(factors) <= 1e30).all():
            raise self._refusal(options, "it scales by more than 1e30")
        shift = mean * factors
        more = {"bias_size": np.abs(beta) + np.abs(shift), "extra": 16, "follows": True}
        says = (mean, variance, gamma, beta, epsilon)
        return self._affine(options, source, Scale(shape, factors), beta - shift, *says, **more)

    def rescaling(self, options: Options, source: int) -> int:
        shape, scale, offset = self._shape(source), float(options["scale"]), float(options["offset"])
        factors, bias = np.full(shape[-1], scale), np.full(shape[-1], offset)
        return self._affine(options, source, Scale(shape, factors), bias, scale, extra=8, follows=True)

    def reshape(self, options: Options, source: int) -> int:
        count, target = math.prod(self._shape(source)), [int(n) for n in options.get("target_shape", [-1])]
        rest = max(1, math.prod(n for n in target if n != -1))
        shape = tuple(count // rest if n == -1 else n for n in target)
        if target.count(-1) > 1 or min(shape, default=1) < 1 or math.prod(shape) != count:
            raise self._refusal(options, f"{count} numbers have no shape {target}")
        return self._moved(options, source, shape)

    def zeros(self, options: Options, source: int) -> int:
        pads = tuple(tuple(int(n) for n in side) for side in options["padding"])
        if len(pads) != 2 or any(len(side) != 2 or min(side) < 0 for side in pads):
            raise self._refusal(options, f"padding {pads} is not known")
        high, wide, channels = self._image(options, source)
        return self._moved(options, source, (high + sum(pads[0]), wide + sum(pads[1]), channels), pads)

    def _moved(self, options: Options, source: int, shape: tuple[int, ...], zeros: Any = None) -> int:
        return self._affine(options, source, Moved(self._shape(source), shape, zeros), None, zeros)

    def mean(self, options: Options, source: int) -> int:
        windows = self._windows(options, source, "pool_size")
        return self._affine(options, source, Mean(windows), None, windows.said)

    def mean_of_all(self, options: Options, source: int) -> int:
        high, wide, channels = self._image(options, source)
        whole = Windows((high, wide, channels), (high, wide), (1, 1), "valid")
        found = self._affine(options, source, Mean(whole), None)
        return found if options["keepdims"] else self._moved(options, found, (channels,))

    def largest(self, options: Options, source: int) -> int:
        windows = self._windows(options, source, "pool_size")
        shape = (*windows.count, self._shape(source)[-1])
        place = Largest(name=options["name"], inputs=(source,), shape=shape, windows=windows)
        return self._made.add(place, windows.said)

    def total(self, options: Options, *sources: int) -> int:
        if len({self._shape(source) for source in sources}) != 1:
            raise self._refusal(options, "it adds up places of several shapes")
        return self._made.add(Total(name=options["name"], inputs=sources, shape=self._shape(sources[0])))

    def beside(self, options: Options, *sources: int) -> int:
        shapes = [self._shape(source) for source in sources]
        if options["axis"] not in (-1, len(shapes[0])) or len({shape[:-1] for shape in shapes}) != 1:
            raise self._refusal(options, "places are known to be joined along their last axis alone")
        shape = (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
        return self._made.add(Beside(name=options["name"], inputs=sources, shape=shape))

    def softmax(self, options: Options, source: int) -> int:
        if options.get("axis", -1) not in (-1, 1) or len(self._shape(source)) != 1:
            raise self._refusal(options, "a softmax over one axis of outputs is known")
        self._softmax = options["name"]
        return source

    def activation(self, options: Options, source: int) -> int:
        match options["activation"]:
            case "linear" | None:
                return source
            case "softmax":
                return self.softmax({"name": options["name"]}, source)
            case str() as name if name in FUNCTIONS:
                return self._bent(options, source, FUNCTIONS[name])
        raise self._refusal(options, f"activation {options['activation']!r} is not known")

    def elu(self, options: Options, source: int) -> int:
        alpha = float(options["alpha"])
        if not 0 < alpha <= 100:
            raise self._refusal(options, f"an ELU with alpha {alpha} is not known")
        return self._bent(options, source, elu(alpha))

    def relu(self, options: Options, source: int) -> int:
        """A slope that float32 does not have is rounded by the program, as is its product."""
        most, slope = options.get("max_value"), float(options.get("negative_slope") or 0.0)
        if float(options.get("threshold") or 0.0) != 0.0:
            raise self._refusal(options, "a threshold is not known")
        if not (abs(slope) <= 1 and (most is None or (0 < most <= 2.0**60 and np.float32(most) == most))):
            raise self._refusal(options, f"a ReLU with slope {slope} and largest value {most} is not known")
        kinks, parts = ((0.0,), (slope, 1.0)) if most is None else ((0.0, float(most)), (slope, 1.0, 0.0))
        return self._bent(options, source, pieces(kinks, parts, units=0 if slope == 0 else 4))

    def _bent(self, options: Options, source: int, function: Function) -> int:
        place = Bent(name=options["name"], inputs=(source,), shape=self._shape(source), function=function)
        return self._made.add(place, function.name)

    def _image(self, options: Options, source: int) -> tuple[int, ...]:
        shape = self._shape(source)
        if len(shape) != 3:
            raise self._refusal(options, f"it reads numbers of shape {shape}, which are no image")
        return shape

    def _windows(self, options: Options, source: int, what: str) -> Windows:
        image, padding, size = self._image(options, source), options["padding"], _pair(options[what])
        if padding not in ("same", "valid") or math.prod(size) > 1 << 16:
            raise self._refusal(options, f"padding {padding!r} or windows {size} are not known")
        strides, dilation = _pair(options.get("strides") or size), _pair(options.get("dilation_rate") or 1)
        found = Windows(image, size, strides, padding, dilation)
        if min(found.count) < 1:
            raise self._refusal(options, f"no window fits into an image of shape {image}")
        return found


_CONVOLVES = "kernel_size strides padding dilation_rate groups activation use_bias"
_KINDS: dict[str, tuple[Callable[..., int], str]] = {
    "Dense": (_Reader.dense, "units activation use_bias"),
    "Conv2D": (_Reader.convolution, f"{_CONVOLVES} filters"),
    "DepthwiseConv2D": (_Reader.convolution, f"{_CONVOLVES} depth_multiplier"),
    "BatchNormalization": (_Reader.normalization, "axis epsilon center scale"),
    "Rescaling": (_Reader.rescaling, "scale offset"),
    "Flatten": (_Reader.reshape, ""),
    "Reshape": (_Reader.reshape, "target_shape"),
    "ZeroPadding2D": (_Reader.zeros, "padding"),
    "AveragePooling2D": (_Reader.mean, "pool_size strides padding"),
    "GlobalAveragePooling2D": (_Reader.mean_of_all, "keepdims"),
    "MaxPooling2D": (_Reader.largest, "pool_size strides padding"),
    "Add": (_Reader.total, ""),
    "Concatenate": (_Reader.beside, "axis"),
    "Activation": (_Reader.activation, "activation"),
    "ELU": (_Reader.elu, "alpha"),
    "ReLU": (_Reader.relu, "negative_slope max_value threshold"),
    "LeakyReLU": (_Reader.relu, "negative_slope"),
    "Softmax": (_Reader.softmax, "axis"),
}
"""By class: how a layer is read, and the options that this looks at."""


def _weight_places(layers: list[Any]) -> list[tuple[str, str]]:
    """For each layer, by name, what Keras calls the place of its weights: its class in snake case, and a count."""
    counts: dict[str, int] = {}
    found = []
    for layer in layers:
        snake = re.sub(r"\W+", "", layer["class_name"])
        snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", snake)).lower()
        number = counts[snake] = counts.get(snake, -1) + 1
        found.append((layer["config"]["name"], f"{snake}_{number}" if number else snake))
    return found


def _ends(said: list[Any]) -> list[tuple[str, int, int]]:
    several = said if said and isinstance(said[0], list) else [said]
    return [(str(name), int(node), int(tensor)) for name, node, tensor in several]


def _tensors(node: Options) -> list[tuple[str, int, int]]:
    """What a layer is called with: tensors alone."""
    if any(value not in (None, False) for key, value in node.get("kwargs", {}).items() if key != "mask"):
        raise ProofError(f"a layer is called with {sorted(node['kwargs'])}, which is not known")
    found: list[tuple[str, int, int]] = []

    def walk(part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                walk(each)
        elif isinstance(part, dict) and part.get("class_name") == "__keras_tensor__":
            name, number, tensor = part["config"]["keras_history"]
            found.append((str(name), int(number), int(tensor)))
        else:
            raise ProofError(f"a layer is called with {str(part)[:80]}, which is no tensor")

    walk(node["args"])
    return found


def _dtype(said: Any) -> str:
    if isinstance(said, dict):
        if said.get("class_name") != "DTypePolicy":
            raise ProofError(f"a dtype policy of class {said.get('class_name')!r} is not known")
        said = said["config"]["name"]
    if said not in ("float32", "float64"):
        raise ProofError(f"layers that compute in {str(said)[:80]!r} are not known")
    return str(said)


def _whole(options: Options, key: str) -> int:
    value = options[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 24:
        raise ProofError(f"layer {options['name']!r}: {key} is {value!r}, which is no count")
    return value


def _pair(said: Any) -> tuple[int, int]:
    pair = (said, said) if isinstance(said, int) else tuple(said)
    if len(pair) != 2 or not all(isinstance(n, int) and 0 < n <= 1 << 16 for n in pair):
        raise ProofError(f"a size {said!r} is no pair of counts")
    return pair[0], pair[1]
