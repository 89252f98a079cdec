"""``tfcert fmt``: specifications in the layout of the language."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from tfcert.cli.arguments import json_argument, quiet_argument
from tfcert.cli.output import for_people, write_json
from tfcert.errors import ExitCode, UsageError
from tfcert.showing import counted


def fmt_arguments(parser: argparse.ArgumentParser) -> None:
    """Specifications, and whether they are written or only compared."""
    parser.add_argument(
        "spec", metavar="SPEC", nargs="+",
        help=".prop files, folders of such, or - for the standard input, which goes to the standard output",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file would change")
    parser.add_argument("--diff", action="store_true", help="write nothing; show what would change")
    json_argument(parser, "the files as a list of objects, with `changed` of each")
    quiet_argument(parser, "say nothing but mistakes")


def run_fmt(options: argparse.Namespace) -> int:
    """Lays specifications out. All are read before any is written; one that does not parse is left as it is."""
    from tfcert.driver.several import specifications
    from tfcert.report.json import write_text

    if options.json == "-" and (options.diff or options.spec == ["-"]):
        raise UsageError("the standard output is for what is laid out: write the JSON to a file")
    if options.spec == ["-"]:
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
        found = {"<stdin>": (text, _laid_out("<stdin>", text))}
    elif "-" in options.spec:
        raise UsageError("the standard input (-) is laid out alone")
    else:
        texts = {str(path): _text(path) for path in specifications(options.spec)}
        found = {name: (text, _laid_out(name, text)) for name, text in texts.items()}
    changed = [name for name, (old, new) in found.items() if old != new]
    write_json(options.json, [{"file": name, "changed": name in changed} for name in found])
    for name in changed if options.diff else []:
        old, new = (text.splitlines(keepends=True) for text in found[name])
        sys.stdout.writelines(difflib.unified_diff(old, new, name, f"{name}, laid out"))
    if options.check or options.diff:
        said = [f"{name} would change" for name in changed if options.check] if not options.diff else []
        if not options.quiet:
            print("\n".join([*said, f"{counted(len(changed), 'file')} of {len(found)} would change"]), file=sys.stderr)
        return ExitCode.FAIL if changed and options.check else ExitCode.PASS
    if options.spec == ["-"]:
        sys.stdout.write(found["<stdin>"][1])
        return ExitCode.PASS
    for name in changed:
        write_text(name, found[name][1])
    if not options.quiet:
        print(f"{counted(len(changed), 'file')} of {len(found)} changed", file=for_people(options))
    return ExitCode.PASS


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start})") from None


def _laid_out(name: str, text: str) -> str:
    """The text in the layout of the language; raises what is wrong with one that does not parse."""
    from tfcert.language.text.diagnostics import Diagnostics, SourceText
    from tfcert.language.text.layout import formatted

    diagnostics = Diagnostics()
    new = formatted(SourceText(name, text), diagnostics)
    if new is None:
        raise diagnostics.errors()
    return new
