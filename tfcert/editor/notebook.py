"""The cell magic ``%%prop``: a specification in a cell, about the models and samples of the notebook.

``%load_ext tfcert`` makes it known. What a cell names and does not define is taken from the notebook; what it defines
is taken from there where ``--bind`` says so.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from tfcert import quiet
from tfcert.datasets import DatasetError
from tfcert.driver.bind import load_spec
from tfcert.driver.explain import contents
from tfcert.editor.symbols import Symbols
from tfcert.errors import UsageError
from tfcert.language import SpecError
from tfcert.language.text import syntax as s
from tfcert.report import Report


class CellError(Exception):
    """A mistake in a cell, which notebooks show as the terminal does, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CellError(f"error: {message}\n{self.format_usage().strip()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="%%prop", add_help=False)
    parser.add_argument("--check", action="store_true", help="look for mistakes, and run nothing")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="give a parameter a value")
    parser.add_argument(
        "--bind", action="append", default=[], metavar="NAME[=VARIABLE]",
        help="take a model or data set that the cell defines from a variable of the notebook instead",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="where results go (default: out/cell-HASH)")
    parser.add_argument("--as", dest="name", metavar="VARIABLE", help="keep the report in a variable, too")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    return parser


def register(shell: Any) -> None:
    """Makes ``%%prop`` known to an IPython shell."""

    def prop(line: str, cell: str) -> Report | None:
        try:
            return _run(line, cell, shell.user_ns)
        except (SpecError, UsageError, DatasetError, OSError) as error:
            notes = getattr(error, "__notes__", [])
            said = str(error) if isinstance(error, SpecError) else f"error: {error}"
            raise CellError("\n".join([said, *notes])) from error

    prop.__doc__ = f"Runs the cell as a specification.\n\n{_parser().format_help()}"
    shell.register_magic_function(prop, "cell", "prop")


def _run(line: str, cell: str, variables: dict[str, Any]) -> Report | None:
    given = _parser().parse_args(shlex.split(line))
    # The magic's own line is the first one: what is said of line 3 is said of the cell's line 3.
    text = f"\n{cell}\n"
    bindings = _bindings(text, given.bind, variables)
    params = dict(_pair(entry) for entry in given.set)
    if given.check:
        spec = load_spec(text, params, bindings)
        said = [d.render() for d in spec.warnings] + contents(spec) + _taken(bindings)
        print("\n".join(said))
        return None
    quiet.import_tensorflow()
    from tfcert.driver.verify import verify

    out = given.out or f"out/cell-{hashlib.sha256(cell.encode()).hexdigest()[:8]}"
    report = verify(text, params=params, bindings=bindings, out=out, verbose=0 if given.quiet else "auto")
    if given.name:
        variables[given.name] = report
    return report


def _pair(entry: str) -> tuple[str, str]:
    name, sign, value = entry.partition("=")
    if not (name and sign and value):
        raise UsageError(f"{entry!r} is not of the form NAME=VALUE")
    return name, value


def _taken(bindings: Mapping[str, Any]) -> list[str]:
    return [f"from the notebook: {', '.join(bindings)}"] if bindings else []


def _bindings(text: str, asked: list[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The models and samples of the notebook that a text is about.

    Raises:
        UsageError: one that is asked for is not there.
    """
    found: dict[str, Any] = {}
    for entry in asked:
        name, sign, variable = entry.partition("=")
        if (variable if sign else name) not in variables:
            raise UsageError(f"the notebook has no variable {variable if sign else name}")
        found[name] = variables[variable if sign else name]
    symbols = Symbols.of(text)
    if symbols is None:  # it does not parse, which is said where it is read
        return found
    for name in _free(symbols):
        if name in variables and _may_be_bound(variables[name]):
            found.setdefault(name, variables[name])
    _tell_of_others(symbols, found, variables)
    return found


def _tell_of_others(symbols: Symbols, found: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    """Says which variables a cell could be about, and is not, since it defines their names itself."""
    for symbol in symbols.symbols:
        own = symbol.kind in ("model", "dataset") and symbol.name not in found
        if own and _may_be_bound(variables.get(symbol.name)):
            what = f"note: the {symbol.kind} {symbol.name} is what the cell defines, not the notebook's variable"
            print(f"{what}: --bind {symbol.name} takes that", file=sys.stderr)


def _free(symbols: Symbols) -> list[str]:
    """The names that a text uses and does not define."""
    refs = [node for node in s.walk(symbols.module) if isinstance(node, s.Ref)]
    return list(dict.fromkeys(node.parts[0] for node in refs if symbols.meant(node.parts[0], node) is None))


def _may_be_bound(value: Any) -> bool:
    """Tells whether a value looks like a model or like samples: numbers, texts and functions do not."""
    marks = ("predict", "element_spec", "columns", "SerializeToString", "__array__")
    return not isinstance(value, type) and (isinstance(value, tuple) or any(hasattr(value, mark) for mark in marks))
