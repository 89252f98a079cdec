"""TensorFlow without its greetings, unless they are asked for by setting TF_CPP_MIN_LOG_LEVEL."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

_LEVEL, _SILENT = "TF_CPP_MIN_LOG_LEVEL", "3"


def settle() -> None:
    """Says, before TensorFlow is loaded, that its C++ code is to log fatal errors alone; a user's own word stands."""
    os.environ.setdefault(_LEVEL, _SILENT)


def import_tensorflow() -> None:
    """Imports TensorFlow, if it is not loaded yet and nobody wants to read its log."""
    if os.environ.get(_LEVEL) == _SILENT:
        with imported():
            import tensorflow  # noqa: F401


@contextlib.contextmanager
def imported() -> Iterator[None]:
    """Within it TensorFlow may be imported, without its greetings.

    Its C++ code logs while it is being loaded whatever the environment says, so standard error is held back until the
    import is done, where nobody wants to read it; if it fails, what was held back is shown.
    """
    kept = None
    if "tensorflow" not in sys.modules and os.environ.get(_LEVEL) == _SILENT:
        sys.stderr.flush()
        with contextlib.suppress(OSError):  # where there is no standard error to hold back
            kept = os.dup(2)
    if kept is None:
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
