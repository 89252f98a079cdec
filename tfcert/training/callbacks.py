"""Callbacks of certified training."""

from __future__ import annotations

from typing import Any

import keras


class _Length(keras.callbacks.Callback):
    """Tells a certified model how many batches make an epoch, before its first step is traced."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.model.take_steps(self.params.get("steps"))


def arranged(callbacks: Any, model: Any) -> Any:
    """Callbacks in the order in which ``fit`` must call them: those that write logs before those that read them."""
    whole = callbacks if isinstance(callbacks, keras.callbacks.CallbackList) else None
    given = whole.callbacks if whole is not None else callbacks or []
    given = list(given) if isinstance(given, list | tuple) else [given]
    rest = [callback for callback in given if not isinstance(callback, _Length)]
    first = _Length()
    ordered = [first, *sorted(rest, key=lambda callback: not getattr(callback, "writes_logs", False))]
    if whole is None:
        return ordered
    first.set_params(whole.params)
    first.set_model(model)
    whole.callbacks[:] = ordered
    return whole
