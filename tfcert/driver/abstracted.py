"""The classifier that ``abstracted by`` is about: an abstraction of a specification, and the model behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfcert.driver.arrivals import InputShape, fits
from tfcert.errors import UsageError
from tfcert.language import Abstraction, ObjectiveTemplate
from tfcert.showing import several

if TYPE_CHECKING:
    from tfcert.network import IntervalAbstraction, Network


def deployed(abstraction: Abstraction, name: str, model: Any, sample: InputShape | None) -> Any:
    """The Keras model that receives samples: the abstraction's cells, and ``model`` behind them.

    A model that takes twice the channels of the samples gets the abstraction in front, and shares its weights with
    what is returned. One that begins with that abstraction itself is returned as it is.

    Args:
        name: of the model, for errors.
        sample: shape of one sample; None where there are none, and a model without abstraction is taken to want one.

    Raises:
        UsageError: the model begins with another abstraction, or takes something else, or is no Keras model.
    """
    import keras

    from tfcert.network import abstractions

    if not isinstance(model, keras.Model):
        raise UsageError(
            f"model {name} must be a Keras model, to stand behind `{abstraction.name}`, not a {type(model).__name__}"
        )
    found = abstractions(model)
    if found:
        _require_same(abstraction, name, found)
        return model
    return _composed(abstraction, name, model, sample)


def _require_same(abstraction: Abstraction, name: str, found: list[IntervalAbstraction]) -> None:
    if len(found) > 1:
        raise UsageError(f"model {name} has {len(found)} abstractions of its own, and `{abstraction.name}` is one")
    (layer,) = found
    range_ = float(abstraction.low), float(abstraction.high)
    if layer.value_range == range_ and abstraction.accepts(layer.granularity):
        return
    own = cells_text(layer.granularity, layer.value_range)
    wanted = cells_text(abstraction.widths, range_)
    if abstraction.tuning is not None:
        wanted += f", tuned to no less than {float(abstraction.finest):g}"
    raise UsageError(
        f"model {name} begins with an abstraction of its own, {own}, but `{abstraction.name}` says {wanted}: write "
        "what the model has, or bind a model that was trained behind this abstraction"
    )


def _composed(abstraction: Abstraction, name: str, model: Any, sample: InputShape | None) -> Any:
    import keras

    from tfcert.network import IntervalAbstraction

    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) < 2 or None in shape[1:]:
        raise UsageError(f"model {name} must have one input of a fixed shape, to stand behind `{abstraction.name}`")
    halved = (*shape[1:-1], shape[-1] // 2)
    wanted = (
        f"behind `{abstraction.name}` it must take the lower and the upper end of each value's cell, twice the "
        "channels (the last axis) of the samples"
    )
    if sample is not None and fits(sample, shape[1:]):
        raise UsageError(
            f"model {name} takes the samples as they are, {shape[1:]}, and has no abstraction of its own: {wanted}. "
            "Bind one that was trained so, or one that begins with a tfcert.layers.IntervalAbstraction"
        )
    if shape[-1] % 2 or not (sample is None or fits(sample, halved)):
        told = "" if sample is None else f", and samples have shape {sample}"
        raise UsageError(f"model {name} takes {shape[1:]}{told}: {wanted}")
    if abstraction.channels and len(abstraction.channels) != halved[-1]:
        raise UsageError(
            f"`{abstraction.name}` has {len(abstraction.channels)} granularities, one for each channel (the last "
            f"axis), and samples of model {name} have shape {halved}"
        )
    (given,) = model.inputs
    layer = IntervalAbstraction(
        abstraction.widths,
        (float(abstraction.low), float(abstraction.high)),
        finest=abstraction.widths if abstraction.channels else float(abstraction.finest),
        dtype=given.dtype,
    )
    front = keras.Input(halved, dtype=given.dtype, name="inputs")
    # A functional model within another does not cast its inputs, as a Sequential would to the type of its own policy.
    inner = keras.Model(model.inputs, model.outputs, name=model.name)
    return keras.Model(front, inner(layer(front)), name=f"abstracted_{model.name}")


def require_behind(name: str, network: Network) -> None:
    """Requires that nothing of the inputs reaches the outputs but through cells.

    Raises:
        UsageError: something does.
    """
    from tfcert.network import Elementwise

    past = {0}
    for i, node in enumerate(network.nodes):
        staircase = isinstance(node, Elementwise) and node.activation.edges is not None
        if not staircase and not past.isdisjoint(node.inputs):
            past.add(i)
    if network.output in past:
        raise UsageError(
            f"model {name} reads its inputs past its abstraction as well, so it is no classifier of cells: leave out "
            "`abstracted by`, and the property is about the model as it is"
        )


def granularity_of(model: Any) -> Any:
    """The width (a number, or an array) of cells of a model that :func:`deployed` returned.

    A tuned one has another than was written.
    """
    from tfcert.network import abstraction_of

    return abstraction_of(model).granularity


def cells_text(granularity: Any, value_range: tuple[float, float]) -> str:
    return f"cells of width {several(granularity)} on [{value_range[0]:.6g}, {value_range[1]:.6g}]"


def classifier(abstraction: Abstraction, granularity: Any = None) -> str:
    """The classifier that a claim is about, in words; ``granularity`` is the model's, where it is known."""
    written, range_ = abstraction.widths, (float(abstraction.low), float(abstraction.high))
    text = cells_text(written if granularity is None else granularity, range_)
    if granularity is None and abstraction.tuning is not None:
        text += f", or finer ones to {float(abstraction.finest):g} after training"
    elif granularity is not None and not abstraction.channels and granularity != written:
        text += f", tuned from {written:.6g}"
    return f"the classifier behind the abstraction `{abstraction.name}` ({text})"


def best_figure(objective: ObjectiveTemplate) -> str:
    """By which figure of held-out samples training keeps an epoch where the abstraction is tuned, in words."""
    return "the highest verified accuracy" if objective.trains_bounds else "the least abstraction error"
