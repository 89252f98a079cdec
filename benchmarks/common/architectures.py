"""The networks of CNN-Cert and DeepCert on MNIST and CIFAR-10: those of ``tfcert.zoo``, by the names of the results."""

from __future__ import annotations

import keras

from tfcert import zoo
from tfcert.zoo.cnn_cert import NAMES as _NAMES
from tfcert.zoo.cnn_cert import arctan, pure_cnn, split

__all__ = ["NAMES", "hidden_nodes", "pure_cnn", "split"]

keras.saving.register_keras_serializable(package="tfcert_ref", name="arctan")(arctan)
"""The reference networks were saved with it under this name."""

NAMES = tuple(name for name in _NAMES if not name.startswith("tinyimagenet"))
"""Those whose images are at hand."""
build, hidden_nodes = zoo.build, zoo.hidden_nodes
