"""``tfcert verify MODEL QUERY.vnnlib``: the answer to a file of the verification competition."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tfcert.errors import ExitCode, UsageError

SUFFIXES = (".vnnlib", ".vnnlib.gz")
_CODES = {"unsat": ExitCode.PASS, "sat": ExitCode.FAIL}


def asks_vnnlib(paths: Sequence[str]) -> bool:
    """Tells whether a VNN-LIB file is among the arguments."""
    return any(path.endswith(SUFFIXES) for path in paths)


def verify_vnnlib(options: argparse.Namespace, import_tensorflow: Callable[[], None]) -> int:
    """Prints the answer to a VNN-LIB file about a model, and what it rests on on standard error.

    When the time is up the process prints ``timeout`` and ends, whatever it is doing.
    """
    began = time.monotonic()
    models, query = asked_of(options)
    for path in [query, *(models.values() if isinstance(models, dict) else [models])]:
        if not Path(path).is_file():
            raise UsageError(f"there is no file {path}")
    watch = threading.Timer(options.timeout or threading.TIMEOUT_MAX, _give_up)
    watch.daemon = True
    if options.timeout is not None:
        watch.start()
    import_tensorflow()
    from tfcert.driver.vnnlib import VnnlibVerifier

    left = None if options.timeout is None else max(0.0, options.timeout - (time.monotonic() - began))
    answer = VnnlibVerifier().answer(models, query, left)
    watch.cancel()
    print(answer.text())
    for verdict in answer.verdicts if not options.quiet else ():
        why = f": {verdict.reason}" if verdict.reason else f", guarantee `{verdict.guarantee}`"
        print(f"{verdict.stage or 'no stage'}{why}", file=sys.stderr)
    if answer.note and not options.quiet:
        print(answer.note, file=sys.stderr)
    return _CODES.get(answer.result, ExitCode.INCONCLUSIVE)


def asked_of(options: argparse.Namespace) -> tuple[str | dict[str, str], str]:
    """The model, or a model for each network of a query, and the query."""
    if options.network:
        if len(options.spec) != 1:
            raise UsageError("with --network the models are named there: tfcert verify query.vnnlib --network f=f.onnx")
        return dict(options.network), options.spec[0]
    if len(options.spec) != 2 or asks_vnnlib(options.spec[:1]):
        raise UsageError(
            "a VNN-LIB file is asked about with its model, as in: tfcert verify net.onnx prop.vnnlib, or, where it "
            "names several, tfcert verify query.vnnlib --network f=f.onnx --network g=g.onnx"
        )
    return options.spec[0], options.spec[1]


def _give_up() -> None:
    """Ends the process at once: what computes in C is not interrupted otherwise."""
    print("timeout", flush=True)
    os._exit(ExitCode.INCONCLUSIVE)
