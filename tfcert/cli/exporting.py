"""``tfcert export``: a specification as VNN-LIB queries, or a query as a specification."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfcert.cli.arguments import assignment, json_argument, quiet_argument, spec_arguments
from tfcert.cli.output import write_json
from tfcert.cli.parameters import names_given
from tfcert.cli.vnnlib import asked_of, asks_vnnlib
from tfcert.errors import ExitCode, UsageError


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """What is exported, and where it goes."""
    spec_arguments(parser, "a .prop file; or a model and a .vnnlib")
    places = parser.add_mutually_exclusive_group(required=True)
    places.add_argument("--vnnlib", metavar="DIR", help="write a query a sample there, and the models as ONNX")
    places.add_argument("--prop", metavar="FILE", help="write the specification that asks what a .vnnlib asks")
    parser.add_argument("--version", type=int, choices=(1, 2), default=1, help="of VNN-LIB (default: 1)")
    parser.add_argument(
        "--network", action="append", default=[], type=assignment, metavar="NAME=FILE",
        help="of a .vnnlib of version 2: the model of one of its networks",
    )  # fmt: skip
    json_argument(parser, "the files that were written, with what they ask")
    quiet_argument(parser, "say nothing of what was written")


def run_export(options: argparse.Namespace, import_tensorflow: Callable[[], None]) -> int:
    """Writes the files, and says which."""
    if options.prop is not None:
        return _to_prop(options, import_tensorflow)
    if len(options.spec) != 1 or asks_vnnlib(options.spec):
        raise UsageError("a specification is exported: tfcert export digits.prop --vnnlib queries")
    from tfcert.driver.bind import load_spec

    spec = load_spec(Path(options.spec[0]), **names_given(options), root=options.root)
    import_tensorflow()
    from tfcert.driver.bind import bind
    from tfcert.driver.exporting import export

    found, measures = export(bind(spec, names_given(options)["bindings"]), Path(options.vnnlib), options.version)
    folder, kind = options.vnnlib, f"VNN-LIB {options.version}"
    said = f"written: {len(found)} queries of {kind}, instances.csv, manifest.json in {folder}"
    left = [f"left out, since VNN-LIB asks for no numbers: {', '.join(measures)}"] if measures else []
    _tell(options, [said, *left], [vars(one) for one in found])
    return ExitCode.PASS


def _tell(options: argparse.Namespace, lines: list[str], told: list[dict[str, Any]]) -> None:
    """Says what was written, where the JSON does not stand there."""
    write_json(options.json, told)
    if options.json != "-" and not options.quiet:
        print("\n".join(lines))


def _to_prop(options: argparse.Namespace, import_tensorflow: Callable[[], None]) -> int:
    if not asks_vnnlib(options.spec[-1:]):
        raise UsageError("a query is exported: tfcert export net.onnx query.vnnlib --prop query.prop")
    models, query = asked_of(options)
    out = Path(options.prop)
    import_tensorflow()
    from tfcert.driver.vnnlib import prop_of

    named = {path: _beside(path, out) for path in ([models] if isinstance(models, str) else models.values())}
    out.write_text(prop_of(models, Path(query), named), encoding="utf-8")
    outside = sorted(path for path, name in named.items() if not (out.parent / name).is_file())
    lines = [f"{path} is not in the folder of {out}: copy it there, or give it by --bind" for path in outside]
    _tell(options, [*lines, f"written: {out}"], [{"file": str(out), "models": named}])
    return ExitCode.PASS


def _beside(path: str, out: Path) -> str:
    """How a specification names a model: relative to its folder, which it may not leave."""
    relative = os.path.relpath(Path(path).resolve(), out.resolve().parent)
    return Path(path).name if relative.startswith("..") else Path(relative).as_posix()
