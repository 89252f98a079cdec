"""``tfcert check``: mistakes in specifications, for people, editors and code hosts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcert.cli.arguments import json_argument, quiet_argument, spec_arguments
from tfcert.cli.output import write_json, write_or_print
from tfcert.cli.parameters import names_given
from tfcert.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from tfcert.language import Diagnostic, Spec
    from tfcert.report.formats.sarif import Annotation

STDIN = "-"


def check_arguments(parser: argparse.ArgumentParser) -> None:
    """Specifications, values and files for their names, and where else the mistakes are written."""
    spec_arguments(parser, "SPECs: .prop files, folders of such, or - for the standard input")
    parser.add_argument(
        "--as", dest="stdin_name", metavar="FILE",
        help="the file that the standard input is the text of: paths are relative to its folder",
    )  # fmt: skip
    json_argument(parser, "what is found as a list of objects")
    parser.add_argument("--sarif", metavar="FILE", help="the same as SARIF; `-` for the standard output")
    parser.add_argument(
        "--github", metavar="FILE", help="the same as lines that GitHub's runners read; `-` for the standard output"
    )
    quiet_argument(parser, "say nothing but mistakes")


def run_check(options: argparse.Namespace) -> int:
    """Looks for mistakes without loading anything. Exits with 4 where a specification cannot be used."""
    from tfcert.driver.explain import contents
    from tfcert.driver.several import require_known

    if [options.json, options.sarif, options.github].count("-") > 1:
        raise UsageError("only one format can go to the standard output")
    names = names_given(options)
    specs: dict[str, Spec] = {}
    found: list[Diagnostic] = []
    for place in _places(options.spec):
        spec, said = _checked(place, names, options, shared=len(options.spec) > 1 or Path(options.spec[0]).is_dir())
        found += said
        specs |= {} if spec is None else {str(place): spec}
    if not any(d.is_error for d in found):
        require_known(list(specs.values()), names["params"], names["bindings"])
    _write(options, found)
    if found:
        print("\n\n".join(d.render() for d in found), file=sys.stderr)
    if not options.quiet and "-" not in (options.json, options.sarif, options.github):
        for name, spec in specs.items():
            first, *about = contents(spec)
            print("\n".join([f"{name}: {first}", *about]))
    return ExitCode.USAGE_ERROR if any(d.is_error for d in found) else ExitCode.PASS


def _places(given: Sequence[str]) -> list[Path | str]:
    """The files to check; the standard input stands for itself."""
    from tfcert.driver.several import specifications

    if STDIN in given and len(given) > 1:
        raise UsageError("the standard input (-) is checked alone")
    return [STDIN] if given == [STDIN] else list(specifications(given))


def _checked(
    place: Path | str, names: dict[str, Any], options: argparse.Namespace, shared: bool
) -> tuple[Spec | None, Sequence[Diagnostic]]:
    """A specification, if it can be used, and what is to say of it."""
    from tfcert.driver.bind import load_spec, load_text
    from tfcert.driver.files import require_models
    from tfcert.language import SpecError

    try:
        if place == STDIN:
            text = sys.stdin.buffer.read().decode("utf-8", "replace")
            spec = load_text(text, options.stdin_name or "<stdin>", **names, root=options.root)
        else:
            spec = load_spec(Path(place), **names, root=options.root, shared=shared)
    except SpecError as error:
        return None, error.diagnostics
    bindings = {n: file for n, file in names["bindings"].items() if n in spec.models or n in spec.datasets}
    require_models(spec, bindings, if_there=True)
    return spec, spec.warnings


def _write(options: argparse.Namespace, found: Sequence[Diagnostic]) -> None:
    """Writes what is found in the formats that are asked for."""
    from tfcert.report.formats.github import commands

    write_json(options.json, [_as_json(d) for d in found])
    if options.sarif:
        write_or_print(options.sarif, _sarif(found))
    if options.github:
        write_or_print(options.github, commands(_annotations(found)))


def _as_json(d: Diagnostic) -> dict[str, Any]:
    return {
        "file": d.source.filename,
        "line": d.span.line,
        "column": d.span.column,
        "end_line": d.span.end_line,
        "end_column": d.span.end_column,
        "code": d.code,
        "severity": "error" if d.is_error else "warning",
        "message": d.message,
        "fix": d.fix or None,
        "note": d.note or None,
    }


def _sarif(found: Sequence[Diagnostic]) -> str:
    from importlib.metadata import version

    from tfcert.language.text.diagnostics import CODES
    from tfcert.report.formats.sarif import sarif_document

    return sarif_document(_annotations(found), CODES, version("tfcert"))


def _annotations(found: Sequence[Diagnostic]) -> list[Annotation]:
    from tfcert.report.formats.sarif import Annotation

    return [
        Annotation(
            "error" if d.is_error else "warning", d.code, ": ".join(filter(None, [d.message, d.fix])),
            d.source.filename, d.span.line, d.span.column, d.span.end_line, d.span.end_column,
        )
        for d in found
    ]  # fmt: skip
