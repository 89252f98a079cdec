"""The command line: ``tfcert verify | check | explain | radius | attack``.

Nothing here imports TensorFlow before a verb needs it: ``check`` and ``explain`` answer at once. Errors of the user are
sentences on standard error (exit code 4); anything unforeseen is a traceback (exit code 3).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tfcert.errors import UsageError

if TYPE_CHECKING:
    from tfcert.report import Report

PASS, INTERRUPTED, INTERNAL_ERROR, USAGE_ERROR = 0, 2, 3, 4
_NORMS = ("linf", "l2", "l1")
_METHODS = ("ibp", "forward", "forward+backward", "crown-ibp", "crown")


class _Parser(argparse.ArgumentParser):
    """argparse exits with 2 on a usage error; here that means interrupted."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = build_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, _user_errors()):
            print(f"{'' if _is_rendered(error) else 'error: '}{error}", file=sys.stderr)
            return USAGE_ERROR
        traceback.print_exc()
        return INTERNAL_ERROR


def _import_tensorflow() -> None:
    """Imports TensorFlow without its greetings.

    Its C++ code logs while it is being loaded whatever TF_CPP_MIN_LOG_LEVEL says, so standard error is held back
    until the import is done; if it fails, what was held back is shown.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow

            tensorflow.get_logger().setLevel("ERROR")
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _user_errors() -> tuple[type[Exception], ...]:
    """What the user can put right. TensorFlow's frontend is asked only if it is loaded: else it raised nothing."""
    from tfcert.datasets import DatasetError
    from tfcert.language import SpecError

    found: tuple[type[Exception], ...] = (UsageError, DatasetError, SpecError, OSError)
    if "tfcert.network" in sys.modules:
        from tfcert.network import ModelLoadError, NonFiniteWeightError, UnsupportedLayerError

        found += (ModelLoadError, NonFiniteWeightError, UnsupportedLayerError)
    return found


def _is_rendered(error: Exception) -> bool:
    """Whether the text already begins with ``error[...]`` for each finding."""
    from tfcert.language import SpecError

    return isinstance(error, SpecError)


def build_parser() -> argparse.ArgumentParser:
    """The verbs and their options."""
    parser = _Parser(prog="tfcert", description="Know that a Keras network is robust.")
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    _verify_parser(_verb(verbs, "verify", _verify, "decide every property, measure and assertion of a specification"))
    for name, run, text in (
        ("check", _check, "look for mistakes without loading anything"),
        ("explain", _explain, "show the queries, the stages and what they cost"),
    ):
        _spec_arguments(_verb(verbs, name, run, text))
    radius = _verb(verbs, "radius", _radius, "certify the largest radius around each sample")
    _data_arguments(radius)
    radius.add_argument("--method", choices=_METHODS, default="crown", help="how to bound (default: crown)")
    radius.add_argument("--relaxation", metavar="NAME", help="how to relax activations (default: adaptive)")
    radius.add_argument("--batch", type=_positive, default=50, metavar="N", help="samples at a time (default: 50)")
    attack = _verb(verbs, "attack", _attack, "look for adversarial inputs near each sample (PGD)")
    _data_arguments(attack)
    attack.add_argument("--eps", type=_fraction, required=True, metavar="E", help="radius in network space, as 8/255")
    attack.add_argument("--out", metavar="DIR", help="where to write witnesses, one npz each (default: nowhere)")
    attack.add_argument("--steps", type=_positive, default=40, metavar="N", help="gradient steps (default: 40)")
    attack.add_argument("--restarts", type=_positive, default=3, metavar="N", help="starts a sample (default: 3)")
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"tfcert {version('tfcert')}")
        parser.exit(PASS)


def _verb(
    verbs: argparse._SubParsersAction[_Parser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _spec_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="a .prop file")
    parser.add_argument(
        "--set", action="append", default=[], type=_assignment, metavar="NAME=VALUE", help="give a parameter a value"
    )
    parser.add_argument(
        "--bind", action="append", default=[], type=_assignment, metavar="NAME=PATH",
        help="take a model (.keras) or a data set (.npz, .csv) from this file",
    )  # fmt: skip


def _verify_parser(parser: argparse.ArgumentParser) -> None:
    _spec_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="write the result here as well")
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--out", metavar="DIR", help="where results go (default: out/<name of SPEC>)")
    places.add_argument("--resume", metavar="DIR", help="go on with the interrupted run whose results are in DIR")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", help="a line a sample")
    loudness.add_argument("-q", "--quiet", action="store_true", help="only the last line")


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .keras file")
    parser.add_argument("data", metavar="DATA", help="an npz file with x and y; x as the network receives it")
    parser.add_argument("--norm", choices=_NORMS, default="linf", help="norm of the perturbation (default: linf)")
    parser.add_argument("--clip", nargs=2, type=float, metavar=("LOW", "HIGH"), help="the valid range of an input")
    parser.add_argument("--limit", type=_positive, default=100, metavar="N", help="samples (default: 100)")
    parser.add_argument("--json", metavar="FILE", help="write the result here")


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _fraction(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 0.03 or 8/255") from error


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return number


def _verify(options: argparse.Namespace) -> int:
    _import_tensorflow()
    from tfcert.driver import verify

    verbose = 0 if options.quiet else 2 if options.verbose else "auto"
    report = verify(
        options.spec if Path(options.spec).is_file() else Path(options.spec),
        params=dict(options.set),
        bindings=dict(options.bind),
        resume=options.resume,
        out=options.out,
        verbose=verbose,
    )
    return _finish(report, options.json, quiet=options.quiet)


def _check(options: argparse.Namespace) -> int:
    from tfcert.binding import load_spec

    spec = load_spec(Path(options.spec), dict(options.set), dict(options.bind))
    for warning in spec.warnings:
        print(warning.render(), file=sys.stderr)
    counts = (
        (len(spec.properties), "properties"),
        (len(spec.measures), "measures"),
        (len(spec.assertions), "assertions"),
    )
    print(f"{options.spec}: no mistakes found in {', '.join(f'{n} {what}' for n, what in counts)}")
    return PASS


def _explain(options: argparse.Namespace) -> int:
    from tfcert.binding import load_spec
    from tfcert.explain import explain

    print(explain(load_spec(Path(options.spec), dict(options.set), dict(options.bind))))
    return PASS


def _radius(options: argparse.Namespace) -> int:
    _import_tensorflow()
    from tfcert.direct import Direct, measure_radii

    data = Direct(options.model, options.data, options.norm, _clip(options), options.limit)
    report = measure_radii(data, method=options.method, relaxation=options.relaxation, batch=options.batch)
    return _finish(report, options.json)


def _attack(options: argparse.Namespace) -> int:
    _import_tensorflow()
    from tfcert.direct import Direct, attack_samples

    data = Direct(options.model, options.data, options.norm, _clip(options), options.limit, options.out)
    return _finish(attack_samples(data, options.eps, steps=options.steps, restarts=options.restarts), options.json)


def _clip(options: argparse.Namespace) -> tuple[float, float] | None:
    return None if options.clip is None else (options.clip[0], options.clip[1])


def _finish(report: Report, json_path: str | None, quiet: bool = False) -> int:
    from rich.console import Console

    from tfcert.report.table import PLAIN_WIDTH

    if json_path:
        report.save_json(json_path)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for part in [] if quiet else report.parts(console.width):
        console.print(part)
    console.print(report.last_line(), markup=False, soft_wrap=True)
    return int(report.exit_code)


if __name__ == "__main__":
    sys.exit(main())
