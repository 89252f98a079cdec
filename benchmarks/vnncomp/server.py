"""The resident process behind a socket, for the competition's scripts: one starts it, another asks it.

``python -m benchmarks.vnncomp.server start`` returns when it is ready, ``ask CATEGORY MODEL QUERY RESULTS SECONDS``
writes the answer, ``stop`` ends it. The folder of the socket is the user's alone. A line of JSON asks, a line answers.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.vnncomp.check import complaint
from benchmarks.vnncomp.resident import GRACE, Answering, Resident, tfcert_answers

PATIENCE = 120.0
"""Seconds in which the process must be ready."""


def place() -> Path:
    """Where the socket is: in a folder that nobody else reads."""
    folder = Path(os.environ.get("TFCERT_VNNCOMP", Path(tempfile.gettempdir()) / f"tfcert-vnncomp-{os.getuid()}"))
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise SystemExit(f"{folder} is open to others")
    return folder / "socket"


def serve(path: Path, make: Callable[[], Answering] = tfcert_answers) -> None:
    """Answers until it is asked to stop."""
    resident = Resident(make)
    resident.begin()
    with socket.socket(socket.AF_UNIX) as listening:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        listening.listen()
        try:
            while True:
                connection, _ = listening.accept()
                with connection, connection.makefile("rw") as stream:
                    asked = json.loads(stream.readline() or '{"stop": true}')
                    if asked.get("stop"):
                        return
                    if asked.get("ready"):
                        stream.write("{}\n")
                        continue
                    found = resident.ask(asked["model"], asked["query"], asked["seconds"])
                    stream.write(json.dumps({"result": found.result, "text": found.text, "how": found.how}) + "\n")
        finally:
            resident.stop()
            path.unlink(missing_ok=True)


def call(path: Path, message: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Sends a message and returns the answer.

    Raises:
        OSError: nobody listens, or no answer came in time.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        with connection.makefile("rw") as stream:
            stream.write(json.dumps(message) + "\n")
            stream.flush()
            answer = stream.readline()
    return dict(json.loads(answer)) if answer else {}


def start(path: Path) -> None:
    """Starts the process, if it does not run, and waits until it is ready."""
    try:
        call(path, {"ready": True}, PATIENCE)
        return
    except OSError:
        path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.vnncomp.server", "serve"]
    root = Path(__file__).parents[2]
    with (path.parent / "log").open("w") as log:
        subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if path.exists():
            call(path, {"ready": True}, PATIENCE)
            return
        time.sleep(0.05)
    raise SystemExit(f"the process is not ready after {PATIENCE:g} s: see {path.parent / 'log'}")


def ask(path: Path, model: str, query: str, results: Path, seconds: float) -> str:
    """Writes the answer in the competition's format; one that is wrong is an error, and is not written as `sat`."""
    message = {"model": str(Path(model).resolve()), "query": str(Path(query).resolve()), "seconds": seconds}
    try:
        found = call(path, message, seconds + 2 * GRACE)
    except TimeoutError:
        found = {"result": "timeout", "text": "timeout"}
    text = str(found.get("text", "error"))
    if found.get("result") == "sat" and "(X_" in text:
        wrong = complaint(Path(model), Path(query), text)
        if wrong:
            text, found["how"] = "error", f"a counterexample that refutes nothing: {wrong}"
    results.write_text(text + "\n", encoding="utf-8")
    return f"{text.partition(chr(10))[0]} {found.get('how', '')}".strip()


def main() -> None:
    """Reads the arguments and does what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("serve", "start", "stop"):
        verbs.add_parser(name)
    asking = verbs.add_parser("ask")
    for name in ("category", "model", "query", "results"):
        asking.add_argument(name)
    asking.add_argument("seconds", type=float)
    options = parser.parse_args()
    path = place()
    if options.verb == "serve":
        serve(path)
    elif options.verb == "start":
        start(path)
    elif options.verb == "stop":
        if path.exists():
            call(path, {"stop": True}, GRACE)
    else:
        print(ask(path, options.model, options.query, Path(options.results), options.seconds))


if __name__ == "__main__":
    main()
