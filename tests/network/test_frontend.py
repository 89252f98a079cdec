"""A format of models is added through the catalog's door and nothing else: loaded, certified, attacked, asked about."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import tensorflow as tf
from unrounded import IGNORED

import tfcert
from tfcert.catalog import FORMATS, FormatInfo
from tfcert.network import Builder
from tfcert.network.frontend import Frontend, ModelState
from tfcert.network.linear import DenseMap

X = np.array([[0.9, 0.1], [0.2, 0.7]], np.float32)
Y = np.array([0, 1])
SPEC = """prop 1
model clf = weights("m.weights") { outputs: logits }
dataset d = npz("d.npz") { range: [0, 1] }
strategy s = pgd -> crown -> split(time_limit=10s)
property near(x, y in d) using s { forall z in ball(x, linf, 0.1) in unit: argmax(clf(z)) == y }
property far(x, y in d) using s { forall z in ball(x, linf, 0.9) in unit: argmax(clf(z)) == y }
"""


class Affine:
    """A model that is no program of Keras's or TensorFlow's: ``x W``."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, np.float32)

    def answers(self, x):
        return x @ self.matrix


class AffineFrontend(Frontend):
    """Files that hold a matrix as text."""

    def accepts(self, model):
        return isinstance(model, Affine)

    def load(self, path, *, compile=False):
        return Affine(np.loadtxt(path))

    def network(self, model, x=None):
        builder = Builder(tf.float32)
        matrix = builder.constant(model.matrix)
        network, _ = builder.network(builder.linear(builder.input((2,), "x"), DenseMap(matrix, (2,), 2)))
        return network

    def state(self, model, x=None):
        return ModelState((), [model.matrix])

    def run(self, model, x):
        return model.answers(x)

    def digest(self, model, network):
        return hashlib.sha256(model.matrix.tobytes()).hexdigest()


FRONTEND = AffineFrontend()


@pytest.fixture
def path(tmp_path):
    np.savetxt(tmp_path / "m.weights", np.eye(2))
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    with FORMATS.added(FormatInfo("weights", f"{__name__}:FRONTEND", positional="path", suffix=".weights", title="W")):
        yield tmp_path / "m.weights"


def test_a_model_of_a_new_format_is_loaded_and_certified(path):
    model = tfcert.load_model(path)
    found = tfcert.certify(model, X, Y, eps=0.1)
    assert np.allclose(found.margin, [0.6, 0.3], atol=1e-5) and found.verified.all()
    assert np.allclose(tfcert.certified_radius(model, X, Y).radius, [0.4, 0.25], rtol=1e-2)
    nearest = tfcert.minimum_perturbation(model, X, Y, clip=(0, 1), options=IGNORED)
    assert np.allclose(nearest.upper, [0.4, 0.25], rtol=1e-4) and nearest.optimal.all()


def test_a_specification_names_it(path, tmp_path):
    (tmp_path / "s.prop").write_text(SPEC)
    report = tfcert.verify(tmp_path / "s.prop", out=tmp_path / "out", verbose=0)
    outcomes = {(r.property, r.sample): str(r.verdict.outcome) for r in report.records}
    assert outcomes == {
        ("near", 0): "verified",
        ("near", 1): "verified",
        ("far", 0): "falsified",
        ("far", 1): "falsified",
    }


def test_what_no_format_has_is_told_with_what_there_is():
    with pytest.raises(TypeError, match="expected a Keras model or an ONNX model, got int"):
        tfcert.certify(3, X, Y, eps=0.1)
