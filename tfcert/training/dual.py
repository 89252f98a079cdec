"""Wong and Kolter's objective: the cross-entropy of what their dual network bounds."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfcert.training.batch import BoundedBatch
from tfcert.training.objectives import Objective


@keras.saving.register_keras_serializable("tfcert")
class DualLP(Objective):
    """The robust loss of Wong and Kolter (2018, "Provable defenses via the convex outer adversarial polytope").

    ``kappa * L(logits) + (1 - kappa) * L(-m)``, where m are lower bounds of ``f_y - f_j`` by the dual network (theorem
    2 there: for a cross-entropy an upper bound of the loss of every point of the ball). The network's bounds of layers
    are by the same dual network, and gradients flow through them, so a step takes a backward pass for every neuron and
    not for the logits alone. The random projections of "Scaling provable adversarial defenses" (Wong et al. 2018),
    which estimate these bounds, are not used: what is trained on is a bound.

    Networks trained so are verified by the method ``dual-lp``, or ``crown``; by intervals, as in ``verified_accuracy``
    of the logs, nearly none of their samples are: see :class:`~tfcert.callbacks.CertifiedEvaluation`.

    Args:
        eps, common: see :class:`Objective`; ``kappa`` is 0 by default, as in the paper, whose radius grows as training
            goes on.

    Raises:
        ValueError: as for :class:`Objective`; or, of the model that is to be trained, nonlinearities other than ReLU.
    """

    method = "dual-lp"

    def robust(self, batch: BoundedBatch) -> tf.Tensor:
        return batch.classify(-batch.dual_margins())
