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
from .graph import Affine, Bent, Beside, Building, Entry, Graph, Largest, Total
from .maps import Convolution, Map, Matrix, Mean, MeanOfAll, Moved, Scale, Windows

Options = Mapping[str, Any]
_LAYERS = 10_000
_PLAIN = [
    "name",
    "trainable",
    "dtype",
    "activity_regularizer",
    "batch_shape",
    "batch_input_shape",
    "sparse",
    "ragged",
    "optional",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "bias_constraint",
    "depthwise_initializer",
    "depthwise_regularizer",
    "depthwise_constraint",
    "synchronized",
    "momentum",
    "beta_initializer",
    "gamma_initializer",
    "moving_mean_initializer",
    "moving_variance_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
    "rate",
    "seed",
    "noise_shape",
    "stddev",
    "renorm",
    "renorm_momentum",
    "renorm_clipping",
    "data_format",
]
"""Options that change nothing of what a trained layer computes, or that are read for every layer."""
_SAME = (
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianNoise",
    "GaussianDropout",
    "ActivityRegularization",
)


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
        if layers[0]["class_name"] != "InputLayer":
            raise ProofError("the model does not begin with an InputLayer, which gives the shape of its inputs")
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
        if kind in _SAME:
            return sources[0]
        if kind not in _KINDS:
            raise ProofError(f"layer {name!r} is a {kind}, which is not known")
        read, known = _KINDS[kind]
        unknown = [key for key, value in options.items() if value is not None and key not in (*_PLAIN, *known.split())]
        if unknown or options.get("data_format") not in (None, "channels_last"):
            raise ProofError(f"layer {name!r}: what {unknown or ['data_format']} do is not known")
        return read(self, options, sources)

    # Layers: options and places read to the place of their output.

    def _arrays(self, options: Options, *shapes: tuple[int, ...]) -> list[np.ndarray]:
        found = self._weights.of(self._places[options["name"]], options["name"], shapes)
        if any(array.dtype != np.dtype(_dtype(options["dtype"])) for array in found):
            raise ProofError(f"layer {options['name']!r}: weights are stored in another type than it computes in")
        return found

    def _shape(self, source: int) -> tuple[int, ...]:
        return self._made.places[source].shape

    def _affine(self, name: str, source: int, map: Map, bias: np.ndarray | None, *says: Any, **more: Any) -> int:
        b = np.zeros(map.out[-1]) if bias is None else bias.astype(np.float64)
        size = more.pop("bias_size", np.abs(b))
        place = Affine(name=name, inputs=(source,), shape=map.out, map=map, bias=b, bias_size=size, **more)
        return self._made.add(place, type(map).__name__, b, *says)

    def dense(self, options: Options, sources: list[int]) -> int:
        (source,), units = sources, _whole(options, "units")
        shape = self._shape(source)
        kernel, *bias = self._arrays(options, (shape[-1], units), *[(units,)] * bool(options["use_bias"]))
        found = self._affine(options["name"], source, Matrix(shape, kernel), _first(bias), kernel)
        return self._activation(options, found)

    def convolution(self, options: Options, sources: list[int]) -> int:
        (source,), filters = sources, _whole(options, "filters")
        windows = self._windows(options, source, "kernel_size")
        if options.get("groups", 1) != 1:
            raise ProofError(f"layer {options['name']!r}: groups are not known")
        size, channels = _pair(options["kernel_size"]), self._shape(source)[-1]
        shapes = [(*size, channels, filters), *[(filters,)] * bool(options["use_bias"])]
        kernel, *bias = self._arrays(options, *shapes)
        map = Convolution(windows, kernel)
        found = self._affine(
            options["name"], source, map, _first(bias), kernel, windows.zeros, windows.strides, windows.places
        )
        return self._activation(options, found)

    def depthwise(self, options: Options, sources: list[int]) -> int:
        (source,) = sources
        windows, size, channels = (
            self._windows(options, source, "kernel_size"),
            _pair(options["kernel_size"]),
            self._shape(source)[-1],
        )
        if options.get("depth_multiplier", 1) != 1:
            raise ProofError(f"layer {options['name']!r}: a depth_multiplier other than 1 is not known")
        kernel, *bias = self._arrays(options, (*size, channels, 1), *[(channels,)] * bool(options["use_bias"]))
        map = Convolution(windows, kernel, apart=True)
        found = self._affine(
            options["name"], source, map, _first(bias), kernel, windows.zeros, windows.strides, windows.places
        )
        return self._activation(options, found)

    def normalization(self, options: Options, sources: list[int]) -> int:
        """``gamma (x - mean) / sqrt(variance + epsilon) + beta``, with the scale and the bias that programs make of it.

        The program's scale is off by 8 roundings at most: epsilon's and the sum's, which the root halves, up to 6 of
        the root and its inverse (or of an approximate inverse root), and gamma's product. 16 are charged for each term
        that it is multiplied with.
        """
        (source,) = sources
        shape = self._shape(source)
        axis = options["axis"]
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, len(shape)):
            raise ProofError(f"layer {options['name']!r}: axis {axis!r} is not the last one")
        count = 2 + bool(options["scale"]) + bool(options["center"])
        arrays = self._arrays(options, *[(shape[-1],)] * count)
        variance, mean = arrays.pop().astype(np.float64), arrays.pop().astype(np.float64)
        gamma = arrays.pop(0).astype(np.float64) if options["scale"] else np.ones_like(mean)
        beta = arrays.pop(0).astype(np.float64) if options["center"] else np.zeros_like(mean)
        epsilon = float(options["epsilon"])
        spread = variance + epsilon
        if not (0 <= epsilon <= 1e30 and ((spread >= 1e-30) & (spread <= 1e30)).all()):
            raise ProofError(
                f"layer {options['name']!r}: variances and epsilon do not add up to numbers that are known"
            )
        factors = gamma / np.sqrt(spread)
        if not (np.abs(factors) <= 1e30).all():
            raise ProofError(f"layer {options['name']!r} scales by more than 1e30")
        map, size = Scale(shape, factors), np.abs(beta) + np.abs(mean * factors)
        return self._affine(options["name"], source, map, beta - mean * factors, mean, variance, gamma, beta, epsilon,
                            bias_size=size, extra=16, follows=True)  # fmt: skip

    def rescaling(self, options: Options, sources: list[int]) -> int:
        (source,) = sources
        shape, (scale, offset) = self._shape(source), (float(options["scale"]), float(options["offset"]))
        bias = np.full(shape[-1], offset)
        return self._affine(
            options["name"], source, Scale(shape, np.full(shape[-1], scale)), bias, scale, extra=8, follows=True
        )

    def flatten(self, options: Options, sources: list[int]) -> int:
        return self._moved(options, sources, (math.prod(self._shape(sources[0])),))

    def reshape(self, options: Options, sources: list[int]) -> int:
        count, target = math.prod(self._shape(sources[0])), [int(n) for n in options["target_shape"]]
        if target.count(-1) > 1 or min(target, default=0) < -1 or 0 in target:
            raise ProofError(f"layer {options['name']!r}: shape {target} is not known")
        rest = math.prod(n for n in target if n != -1)
        shape = tuple(count // rest if n == -1 else n for n in target)
        if math.prod(shape) != count:
            raise ProofError(f"layer {options['name']!r}: {count} numbers have no shape {target}")
        return self._moved(options, sources, shape)

    def zeros(self, options: Options, sources: list[int]) -> int:
        pads = options["padding"]
        pads = tuple(tuple(int(n) for n in side) for side in pads)
        if len(pads) != 2 or any(len(side) != 2 or min(side) < 0 for side in pads):
            raise ProofError(f"layer {options['name']!r}: padding {pads} is not known")
        high, wide, channels = self._image(options, sources[0])
        shape = (high + sum(pads[0]), wide + sum(pads[1]), channels)
        return self._moved(options, sources, shape, pads)

    def _moved(self, options: Options, sources: list[int], shape: tuple[int, ...], zeros: Any = None) -> int:
        (source,) = sources
        return self._affine(options["name"], source, Moved(self._shape(source), shape, zeros), None, zeros)

    def mean(self, options: Options, sources: list[int]) -> int:
        (source,) = sources
        windows = self._windows(options, source, "pool_size")
        return self._affine(
            options["name"], source, Mean(windows), None, windows.zeros, windows.strides, windows.places
        )

    def mean_of_all(self, options: Options, sources: list[int]) -> int:
        (source,) = sources
        self._image(options, source)
        return self._affine(options["name"], source, MeanOfAll(self._shape(source), bool(options["keepdims"])), None)

    def largest(self, options: Options, sources: list[int]) -> int:
        (source,) = sources
        windows = self._windows(options, source, "pool_size")
        shape = (*windows.count, self._shape(source)[-1])
        place = Largest(name=options["name"], inputs=(source,), shape=shape, windows=windows)
        return self._made.add(place, windows.zeros, windows.strides, windows.places)

    def total(self, options: Options, sources: list[int]) -> int:
        if len({self._shape(source) for source in sources}) != 1:
            raise ProofError(f"layer {options['name']!r} adds up places of several shapes")
        return self._made.add(Total(name=options["name"], inputs=tuple(sources), shape=self._shape(sources[0])))

    def beside(self, options: Options, sources: list[int]) -> int:
        shapes = [self._shape(source) for source in sources]
        if options["axis"] not in (-1, len(shapes[0])) or len({shape[:-1] for shape in shapes}) != 1:
            raise ProofError(f"layer {options['name']!r}: places are known to be joined along their last axis alone")
        shape = (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
        return self._made.add(Beside(name=options["name"], inputs=tuple(sources), shape=shape))

    def activation(self, options: Options, sources: list[int]) -> int:
        return self._activation(options, sources[0])

    def relu(self, options: Options, sources: list[int]) -> int:
        slope, most = float(options.get("negative_slope") or 0.0), options.get("max_value")
        if float(options.get("threshold") or 0.0) != 0.0:
            raise ProofError(f"layer {options['name']!r}: a threshold is not known")
        return self._bent(options["name"], sources[0], slope, None if most is None else float(most))

    def leaky(self, options: Options, sources: list[int]) -> int:
        return self._bent(options["name"], sources[0], float(options["negative_slope"]), None)

    def softmax(self, options: Options, sources: list[int]) -> int:
        if options.get("axis", -1) not in (-1, 1) or len(self._shape(sources[0])) != 1:
            raise ProofError(f"layer {options['name']!r}: a softmax over one axis of outputs is known")
        self._softmax = options["name"]
        return sources[0]

    def _activation(self, options: Options, source: int) -> int:
        match options["activation"]:
            case "linear" | None:
                return source
            case "relu":
                return self._bent(options["name"], source, 0.0, None)
            case "relu6":
                return self._bent(options["name"], source, 0.0, 6.0)
            case "leaky_relu":
                return self._bent(options["name"], source, 0.2, None)
            case "softmax":
                return self.softmax({"name": options["name"]}, [source])
            case other:
                raise ProofError(f"layer {options['name']!r}: activation {other!r} is not known")

    def _bent(self, name: str, source: int, slope: float, most: float | None) -> int:
        """A slope that float32 does not have is rounded by the program, as is its product: 4 roundings are charged."""
        if not (abs(slope) <= 1 and (most is None or (0 < most <= 2.0**60 and np.float32(most) == most))):
            raise ProofError(f"layer {name!r}: a ReLU with slope {slope} and largest value {most} is not known")
        kinks, slopes = ((0.0,), (slope, 1.0)) if most is None else ((0.0, most), (slope, 1.0, 0.0))
        value, units = 0.0, 0 if slope == 0 else 4
        place = Bent(
            name=name, inputs=(source,), shape=self._shape(source), kinks=kinks, slopes=slopes, value=value, units=units
        )
        return self._made.add(place, kinks, slopes, value)

    def _image(self, options: Options, source: int) -> tuple[int, ...]:
        shape = self._shape(source)
        if len(shape) != 3:
            raise ProofError(f"layer {options['name']!r} reads numbers of shape {shape}, which are no image")
        return shape

    def _windows(self, options: Options, source: int, what: str) -> Windows:
        image, padding = self._image(options, source), options["padding"]
        size, strides = _pair(options[what]), _pair(options.get("strides") or options[what])
        dilation = _pair(options.get("dilation_rate") or 1)
        if padding not in ("same", "valid") or math.prod(size) > 1 << 16:
            raise ProofError(f"layer {options['name']!r}: padding {padding!r} or windows {size} are not known")
        found = Windows(image, size, strides, padding, dilation)
        if min(found.count) < 1:
            raise ProofError(f"layer {options['name']!r}: no window fits into an image of shape {image}")
        return found


_CONVOLVES = "kernel_size strides padding dilation_rate groups activation use_bias"
_KINDS: dict[str, tuple[Callable[[_Reader, Options, list[int]], int], str]] = {
    "Dense": (_Reader.dense, "units activation use_bias"),
    "Conv2D": (_Reader.convolution, f"{_CONVOLVES} filters"),
    "DepthwiseConv2D": (_Reader.depthwise, f"{_CONVOLVES} depth_multiplier"),
    "BatchNormalization": (_Reader.normalization, "axis epsilon center scale"),
    "Rescaling": (_Reader.rescaling, "scale offset"),
    "Flatten": (_Reader.flatten, ""),
    "Reshape": (_Reader.reshape, "target_shape"),
    "ZeroPadding2D": (_Reader.zeros, "padding"),
    "AveragePooling2D": (_Reader.mean, "pool_size strides padding"),
    "GlobalAveragePooling2D": (_Reader.mean_of_all, "keepdims"),
    "MaxPooling2D": (_Reader.largest, "pool_size strides padding"),
    "Add": (_Reader.total, ""),
    "Concatenate": (_Reader.beside, "axis"),
    "Activation": (_Reader.activation, "activation"),
    "ReLU": (_Reader.relu, "negative_slope max_value threshold"),
    "LeakyReLU": (_Reader.leaky, "negative_slope"),
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


def _first(parts: list[np.ndarray]) -> np.ndarray | None:
    return parts[0] if parts else None
