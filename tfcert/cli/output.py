"""Where verbs write: files, or the standard output for ``-``, which what people read then leaves to programs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, TextIO

from tfcert.report.json import write_text


def write_or_print(target: str, text: str) -> None:
    """Writes a text to a file, or to the standard output for ``-``."""
    if target == "-":
        sys.stdout.write(text)
    else:
        write_text(target, text)


def write_json(target: str | None, value: Any) -> None:
    """Writes a value as JSON to what ``--json`` names, if it names anything."""
    if target:
        write_or_print(target, json.dumps(value, indent=1, allow_nan=False) + "\n")


def for_people(options: argparse.Namespace) -> TextIO:
    """Where people read: the standard error where the JSON goes to the standard output."""
    return sys.stderr if options.json == "-" else sys.stdout
