"""Arguments of the command line: options shared by several verbs, and the types of their values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from operator import methodcaller
from typing import NoReturn

from tfcert.catalog import (
    DISTANCES,
    FALLBACKS,
    FORMATS,
    METHODS,
    NORMS,
    RELAXATIONS,
    ROUNDINGS,
    SOURCES,
    method_name,
    roundings_told,
    suffixes,
)
from tfcert.clauses import TARGETS
from tfcert.entries import DistanceInfo, Option
from tfcert.errors import ExitCode
from tfcert.options import BoundOptions


class Parser(argparse.ArgumentParser):
    """argparse exits with 2 on a usage error; here that means interrupted."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE_ERROR, f"error: {message}\n")


def spec_arguments(parser: argparse.ArgumentParser, several: str = "") -> None:
    """The specification (or ``several``, which says what may be given), and values and files for its names."""
    if several:
        parser.add_argument("spec", metavar="SPEC", nargs="+", help=several)
    else:
        parser.add_argument("spec", metavar="SPEC", help="a .prop file")
    parser.add_argument(
        "--set", action="append", default=[], type=assignment, metavar="NAME=VALUE", help="give a parameter a value"
    )
    parser.add_argument(
        "--params", action="append", default=[], metavar="FILE",
        help='give parameters values from a JSON or TOML file, as {"eps": "2/255"}; --set wins',
    )  # fmt: skip
    parser.add_argument(
        "--set-from-env", action="store_true",
        help="give parameters values from the environment: TFCERT_eps, or TFCERT_common__eps for common.eps; wins "
        "against --params",
    )  # fmt: skip
    parser.add_argument(
        "--root", metavar="DIR",
        help="a folder around SPEC's own: paths may lead into it by `..`, and not out of it (default: SPEC's folder)",
    )  # fmt: skip
    models, data = ", ".join(suffixes(FORMATS)), ", ".join(suffixes(SOURCES))
    parser.add_argument(
        "--bind", action="append", default=[], type=assignment, metavar="NAME=PATH",
        help=f"take a model ({models}) or a data set ({data}) from this file",
    )  # fmt: skip


def figure_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Where figures go, and in which format."""
    parser.add_argument("--figures", metavar="DIR", help=f"draw {what} into this folder")
    parser.add_argument(
        "--figure-format", choices=("svg", "pdf", "png"), default="svg", help="how figures are written (default: svg)"
    )


def explain_arguments(parser: argparse.ArgumentParser) -> None:
    """A specification, and perhaps a sample whose proofs are looked into."""
    spec_arguments(parser)
    parser.add_argument(
        "--sample", type=int, metavar="N",
        help="load models and data, and show where the proofs about sample N lose, layer by layer",
    )  # fmt: skip
    parser.add_argument(
        "--radius",
        type=Fraction,
        metavar="R",
        help="with --sample: the radius at which measures are looked at",
    )
    figure_arguments(parser, "with --sample: where each proof loses")
    json_argument(parser, "the lines about each question and objective, or what each proof loses")


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    """A specification, where results go, and how much is said."""
    spec_arguments(parser, ".prop files, or folders of such; or a model and a .vnnlib")
    json_argument(parser, "the result; of several, those of all")
    parser.add_argument("--junit", metavar="FILE", help="write what is judged here, as JUnit reports tell it")
    _places(parser, "out/<name of SPEC>; of several SPECs, DIR/<name> for each")
    parser.add_argument(
        "--timeout", type=positive_number, metavar="SECONDS",
        help="of a model and a .vnnlib: the time for everything, after which `timeout` is printed",
    )  # fmt: skip
    parser.add_argument(
        "--network", action="append", default=[], type=assignment, metavar="NAME=FILE",
        help="of a .vnnlib of version 2: the model of one of its networks",
    )  # fmt: skip
    parser.add_argument(
        "--certificates", action="store_true",
        help="write each proof to DIR/certificates, for `python -m tfcert.proof DIR` (docs/certificates.md)",
    )  # fmt: skip
    parser.add_argument(
        "--since", metavar="DIR",
        help="try what the proofs of an earlier run rest on first, and search only for what they do not settle "
        "(docs/retraining.md); of several SPECs, DIR/<name> for each",
    )  # fmt: skip
    worker_arguments(parser)
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="a line a sample, and what a solver finds on the way"
    )
    quiet_argument(loudness)


def worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Who answers, where that is not this process alone."""
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--workers", type=positive, metavar="N",
        help="answer with so many processes on this machine; the result does not depend on their number",
    )  # fmt: skip
    who.add_argument(
        "--scheduler", metavar="ADDRESS", help="answer with the workers of a dask cluster, as tcp://host:8786"
    )
    who.add_argument(
        "--devices",
        metavar="LIST",
        help="answer with one process a GPU: 0,1, or with their memory in MiB: 0=40000,1=40000",
    )
    parser.add_argument("--worker-threads", type=positive, metavar="N", help="threads of each worker (default: 1)")
    parser.add_argument(
        "--worker-memory", type=positive, metavar="MB",
        help="what each worker may use, in MiB; one that takes more is ended, and a sample that ends two is unknown",
    )  # fmt: skip


def train_arguments(parser: argparse.ArgumentParser) -> None:
    """A specification and its objective, where the model goes, and how much is said."""
    spec_arguments(parser)
    parser.add_argument("--objective", required=True, metavar="NAME", help="the objective of SPEC to train for")
    parser.add_argument("--out", required=True, metavar="MODEL.keras", help="where the trained model goes")
    parser.add_argument(
        "--resume", metavar="DIR", help="go on with the interrupted training whose log and backup are in DIR"
    )
    parser.add_argument(
        "--tensorboard", metavar="DIR", help="write logs for TensorBoard there, with the widths of every layer's bounds"
    )
    parser.add_argument(
        "--widths", action="store_true", help="a column in log.csv for the mean width of every layer's intervals, too"
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", help="a progress bar even where there is no terminal")
    quiet_argument(loudness, "say only where the model is")
    json_argument(parser, "what became of the training")


def radius_arguments(parser: argparse.ArgumentParser) -> None:
    """A model and samples, how to bound, and where results go."""
    solved = " and ".join(name for name, method in METHODS.items() if method.asks_solver)
    _data_arguments(parser)
    parser.add_argument(
        "--method", type=method_name, metavar="NAME",
        help=f"how to bound: {', '.join(METHODS)}; {solved} ask a solver (default: crown)",
    )  # fmt: skip
    parser.add_argument(
        "--relaxation", metavar="NAME",
        help=f"how to relax activations: {', '.join(RELAXATIONS)} (default: adaptive)",
    )  # fmt: skip
    parser.add_argument(
        "--fallback", choices=FALLBACKS,
        help="how to relax activations for which the relaxation has no rule (default: such models are refused)",
    )  # fmt: skip
    parser.add_argument(
        "--rounding", choices=tuple(ROUNDINGS),
        help=f"what radii are about: {roundings_told()} (default: {BoundOptions().rounding})",
    )  # fmt: skip
    parser.add_argument(
        "--targets", choices=TARGETS,
        help="which classes a sample must not reach: all others, or only the likeliest, the least likely or a random "
        "one of the rest (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--correct", action="store_true", default=None,
        help="take the first samples that the model classifies correctly, as many as --limit says",
    )  # fmt: skip
    parser.add_argument(
        "--tolerance", type=amount, metavar="T",
        help="how near to where certification fails a search ends, as a share of the radius (default: 1e-4)",
    )  # fmt: skip
    parser.add_argument(
        "--absolute-tolerance", type=amount, metavar="T",
        help="the same as a distance, near enough whatever the radius (default: 0; the papers: --tolerance 0 "
        "--absolute-tolerance 1e-5 --start 0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--start", type=positive_number, metavar="E",
        help="the radius that is tried first (default: guessed for each sample from its gradient)",
    )  # fmt: skip
    parser.add_argument(
        "--iterations", type=positive, metavar="N", help="steps of the optimising methods (default: 20)"
    )
    parser.add_argument(
        "--learning-rate", type=positive_number, metavar="R", help="step size of the optimising methods (default: 0.5)"
    )
    parser.add_argument("--batch", type=positive, default=50, metavar="N", help="samples at a time (default: 50)")
    _places(parser, "out/radius-<name of MODEL>-<norm>")


def attack_arguments(parser: argparse.ArgumentParser) -> None:
    """A model and samples, how far and how hard to look."""
    _data_arguments(parser)
    parser.add_argument("--eps", type=fraction, required=True, metavar="E", help="radius in network space, as 8/255")
    parser.add_argument("--out", metavar="DIR", help="where to write witnesses, one npz each (default: nowhere)")
    parser.add_argument("--steps", type=positive, default=40, metavar="N", help="gradient steps (default: 40)")
    parser.add_argument("--restarts", type=positive, default=3, metavar="N", help="starts a sample (default: 3)")


def distance_arguments(parser: argparse.ArgumentParser, info: DistanceInfo) -> None:
    """A model and samples, the options of a way to measure distances, and where results go."""
    _data_arguments(parser, info.norms, clip=info.clips)
    for name, option in info.options.items():
        _option(parser, name, option)
    _places(parser, f"out/{info.name}-<name of MODEL>-<norm>")


def estimate_arguments(parser: argparse.ArgumentParser) -> None:
    """A verb for each way to measure distances but ``minimum``, which is a verb of its own."""
    ways = parser.add_subparsers(dest="distance", required=True, metavar="METHOD", parser_class=Parser)
    for info in DISTANCES.values():
        if info.name not in OWN_VERBS:
            text = f"{info.title} of each sample: {info.promise}"
            distance_arguments(ways.add_parser(info.name, help=text, description=f"{text}."), info)


def minimum_arguments(parser: argparse.ArgumentParser) -> None:
    """A model and samples, how to look for least perturbations, and where results go."""
    parser.set_defaults(distance="minimum")
    distance_arguments(parser, DISTANCES["minimum"])


OWN_VERBS = ("minimum",)
"""Ways to measure distances that are verbs themselves."""


def _option(parser: argparse.ArgumentParser, name: str, option: Option) -> None:
    """An option of the catalog as one of the command line; it is None where it is not given."""
    flag, about = f"--{name.replace('_', '-')}", option.about
    if option.default is not None:
        about += f" (default: {str(option.default).replace('_', '-')})"
    if option.kind == "flag":
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=about)
    elif option.kind == "choice":
        # Shown with hyphens, as the command line writes names, and read as the catalog's words.
        metavar = "{" + ",".join(option.allowed).replace("_", "-") + "}"
        read_word = methodcaller("replace", "-", "_")
        parser.add_argument(flag, choices=option.allowed, type=read_word, metavar=metavar, help=about)
    else:
        metavar, read = _READERS[option.kind]
        at_least = _whole(option.least) if option.kind == "whole" else read
        parser.add_argument(flag, type=at_least, metavar=metavar, help=about)


def _places(parser: argparse.ArgumentParser, default: str) -> None:
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--out", metavar="DIR", help=f"where results go (default: {default})")
    places.add_argument(
        "--resume", metavar="DIR",
        help="go on with the interrupted run whose results are in DIR, with what it was given",
    )  # fmt: skip


def _data_arguments(parser: argparse.ArgumentParser, norms: Sequence[str] = (), clip: bool = True) -> None:
    norms = norms or ("linf", *(norm for norm in NORMS if norm != "linf"))
    parser.add_argument("model", metavar="MODEL", help="a .keras file")
    kinds = ", ".join(suffix for suffix, source in suffixes(SOURCES).items() if not source.columns)
    parser.add_argument(
        "data", metavar="DATA", help=f"samples with labels ({kinds}; an npz has x and y), as the network receives them"
    )
    parser.add_argument(
        "--norm", choices=tuple(NORMS), help=f"norm of the perturbation: {', '.join(norms)} (default: {norms[0]})"
    )
    if clip:
        parser.add_argument("--clip", nargs=2, type=float, metavar=("LOW", "HIGH"), help="the valid range of an input")
    else:
        parser.set_defaults(clip=None)
    parser.add_argument("--limit", type=positive, metavar="N", help="samples, from the first (default: 100)")
    worker_arguments(parser)
    json_argument(parser, "the result")
    quiet_argument(parser)


def json_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """``--json``, of every verb that finds something out."""
    parser.add_argument("--json", metavar="FILE", help=f"write {what}, as JSON; `-` for the standard output")


def quiet_argument(parser: argparse._ActionsContainer, what: str = "say only the last line") -> None:
    """``--quiet``, of every verb that says more than what it was asked for. Mistakes are always said."""
    parser.add_argument("-q", "--quiet", action="store_true", help=what)


def assignment(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def fraction(text: str) -> float:
    """A number, perhaps written as a fraction."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 0.03 or 8/255") from error


def positive_number(text: str) -> float:
    """A number above 0."""
    number = fraction(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not positive")
    return number


def amount(text: str) -> float:
    """A number that is not negative."""
    number = fraction(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    return number


def positive(text: str) -> int:
    """A whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return number


def _whole(least: int) -> Callable[[str], int]:
    """Reads a whole number of at least so much."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
        return number

    return read


_READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "whole": ("N", int),
    "positive": ("R", positive_number),
    "length": ("R", positive_number),
    "time": ("SECONDS", positive_number),
    "text": ("TEXT", str),
}
