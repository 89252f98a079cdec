"""Verbs about results of earlier runs: ``tfcert diff``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tfcert.errors import UsageError


def diff_arguments(parser: argparse.ArgumentParser) -> None:
    """Two results, and how they are told."""
    parser.add_argument("old", metavar="OLD", help="the folder of a run, or its result.json")
    parser.add_argument("new", metavar="NEW", help="those of a later run of the same specification")
    parser.add_argument("--json", metavar="FILE", help="write what changed here as well")
    parser.add_argument(
        "--tolerance", type=float, default=None, metavar="PART",
        help="by what part of itself a certified radius or share may fall and not be worse (default: 0.01)",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show every answer that changed, however many")


def run_diff(options: argparse.Namespace) -> int:
    """Says which verdicts changed. Exit code 0: nothing got worse, 1: something did, 2: they cannot be compared."""
    from rich.console import Console

    from tfcert.report.changes import MOST_CHANGES, difference_line, difference_parts
    from tfcert.report.difference import TOLERANCE, DiffCode, diff
    from tfcert.report.table import render

    try:
        found = diff(options.old, options.new, tolerance=TOLERANCE if options.tolerance is None else options.tolerance)
        if options.json:
            Path(options.json).write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return DiffCode.NOT_COMPARABLE
    parts = difference_parts(found, len(found.changes) if options.all else MOST_CHANGES)
    if sys.stdout.isatty():
        console = Console(highlight=False)
        for part in parts:
            console.print(part)
    else:
        print(render(parts))
    print(difference_line(found))
    return int(found.exit_code)
