"""TensorFlow without its greetings, unless they are asked for by setting TF_CPP_MIN_LOG_LEVEL."""

from __future__ import annotations

import os
import sys
import tempfile

_LEVEL, _SILENT = "TF_CPP_MIN_LOG_LEVEL", "3"


def settle() -> None:
    """Says, before TensorFlow is loaded, that its C++ code is to log fatal errors alone; a user's own word stands."""
    os.environ.setdefault(_LEVEL, _SILENT)


def import_tensorflow() -> None:
    """Imports TensorFlow, if it is not loaded yet and nobody wants to read its log.

    Its C++ code logs while it is being loaded whatever the environment says, so standard error is held back until the
    import is done; if it fails, what was held back is shown.
    """
    if "tensorflow" in sys.modules or os.environ.get(_LEVEL) != _SILENT:
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error to hold back
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
