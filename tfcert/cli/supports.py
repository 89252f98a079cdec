"""``tfcert supports``: what may be asked, as the standard's interface of verifiers has it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from tfcert.cli.arguments import json_argument
from tfcert.cli.output import write_json
from tfcert.errors import ExitCode

VNNLIB_VERSIONS = ("1.0", "2.0")
THEORIES = {
    "hidden-node": "H",
    "multiple-input-output": "MIO",
    "multiple-network": "MNET",
    "multiple-node-comparison": "MNC",
    "arithmetic-complexity": "LIN",
}
"""The largest theory of each of the standard's sets that queries may be of."""


def supports_arguments(parser: argparse.ArgumentParser) -> None:
    """One capability; all without any."""
    group = parser.add_mutually_exclusive_group()
    for name, (about, _) in capabilities().items():
        group.add_argument(f"--{name}", dest="capability", action="store_const", const=name, help=about)
    json_argument(parser, "the lines of each capability by its name")


def capabilities() -> dict[str, tuple[str, Callable[[], Sequence[str]]]]:
    """The capabilities: what each is, and how its lines are found out."""
    found: dict[str, tuple[str, Callable[[], Sequence[str]]]] = {
        "vnnlib-versions": ("the least and the newest version of VNN-LIB", lambda: VNNLIB_VERSIONS),
        "onnx-opset-versions": ("the least and the newest version of ONNX's operators", _opsets),
        "onnx-element-types": ("types of numbers that proofs are about", _element_types),
        "onnx-operators": ("operators, each with the types of numbers that proofs with it are about", _operators),
        "serialise-assignments": ("whether assignments are written as ONNX tensors", lambda: ("false",)),
        "unsat-proofs": ("whether proofs are written in VNN-LIB's format", lambda: ("false",)),
        "optimised-disjunctive-reasoning": (
            "whether disjunctions of outputs are decided together, not one by one", lambda: ("true",),
        ),
    }  # fmt: skip
    for name, theory in THEORIES.items():
        about = f"the largest theory of {name.replace('-', ' ')}s that queries may be of"
        found[f"{name}-theories"] = (about, lambda theory=theory: (theory,))  # type: ignore[misc]
    return found


def run_supports(options: argparse.Namespace, import_tensorflow: Callable[[], None]) -> int:
    """Prints the lines of a capability, or all of them, each under its name."""
    import_tensorflow()
    if options.json:
        asked = {name: lines for name, (_, lines) in capabilities().items() if options.capability in (None, name)}
        write_json(options.json, {name: list(lines()) for name, lines in asked.items()})
    for name, (_, lines) in capabilities().items() if options.json != "-" else ():
        if options.capability is None:
            print(f"{name}:")
        if options.capability in (None, name):
            indent = "  " if options.capability is None else ""
            print("\n".join(f"{indent}{line}" for line in lines()))
    return ExitCode.PASS


def _opsets() -> Sequence[str]:
    from tfcert.network.onnx.model import NEWEST, OLDEST

    return str(OLDEST), str(NEWEST)


def _element_types() -> Sequence[str]:
    from tfcert.network.onnx.supported import element_types

    return element_types()


def _operators() -> Sequence[str]:
    from tfcert.network.onnx.supported import operators

    return [" ".join([kind, *types]) for kind, types in operators().items()]
