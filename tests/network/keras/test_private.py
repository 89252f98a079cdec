"""What tfcert reads inside Keras is in one file, and a version that lacks it says so."""

import ast
from pathlib import Path

import keras
import pytest

import tfcert
from tfcert.network.errors import KerasVersionError
from tfcert.network.keras import private as private

PACKAGE = Path(tfcert.__file__).parent


@pytest.mark.parametrize(
    "read",
    [
        lambda: private._Module("keras.src.ops.nn").Gone,
        lambda: private._Module("keras.src.gone").Relu,
        lambda: private.calls(keras.Sequential()),
    ],
    ids=["a name of a module", "a module", "an attribute"],
)
def test_what_a_version_lacks_is_named_with_what_to_install(read):
    with pytest.raises(KerasVersionError, match=rf"Keras {keras.__version__} has no .*pip install 'keras>="):
        read()


def test_the_installed_version_is_one_that_was_checked():
    """Goes red with a new Keras: look through the file, then widen its range."""
    least, below = (tuple(map(int, part.lstrip("<>=").split("."))) for part in private.CHECKED.split(","))
    assert least <= tuple(map(int, keras.__version__.split(".")[:2])) < below


def test_nothing_else_reads_inside_keras():
    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    inside = [model, *model.layers, model.outputs[0], private.functional_graph(model), keras.metrics.Mean()]
    names = {name for thing in inside for name in dir(thing) if name.startswith("_") and not name.startswith("__")}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path == Path(private.__file__) or ("import keras" not in text and "from keras" not in text):
            continue
        assert "keras.src" not in text, path
        read = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
        assert not read & names, path
