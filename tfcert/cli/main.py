"""The command line: the verbs of ``tfcert``, each with its arguments.

Nothing here imports TensorFlow before a verb needs it: ``check`` and ``explain`` answer at once. Errors of the user are
sentences on standard error (exit code 4); anything unforeseen is a traceback (exit code 3).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfcert import quiet
from tfcert.catalog import DISTANCES
from tfcert.cli.arguments import (
    Parser,
    attack_arguments,
    estimate_arguments,
    explain_arguments,
    minimum_arguments,
    radius_arguments,
    train_arguments,
    verify_arguments,
)
from tfcert.cli.checking import check_arguments, run_check
from tfcert.cli.doctor import doctor_arguments, run_doctor
from tfcert.cli.editing import completion_arguments, no_arguments, run_completion, run_lsp
from tfcert.cli.exporting import export_arguments, run_export
from tfcert.cli.formatting import fmt_arguments, run_fmt
from tfcert.cli.output import for_people, write_json, write_or_print
from tfcert.cli.parameters import names_given
from tfcert.cli.results import (
    diff_arguments,
    dossier_arguments,
    recheck_arguments,
    report_arguments,
    run_diff,
    run_dossier,
    run_recheck,
    run_report,
    run_status,
    run_watch,
    status_arguments,
    watch_arguments,
    write_format,
)
from tfcert.cli.supports import run_supports, supports_arguments
from tfcert.cli.vnnlib import asks_vnnlib, verify_vnnlib
from tfcert.cli.workers import workers_given
from tfcert.errors import ExitCode, UsageError
from tfcert.memory import keep_freed_memory

if TYPE_CHECKING:
    from tfcert.language import Spec
    from tfcert.report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = build_parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        return ExitCode.USAGE_ERROR
    options = parser.parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # whoever reads the output has seen enough (`| head`), which is no news
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.INTERRUPTED
    except Exception as error:
        if isinstance(error, _user_errors()):
            notes = getattr(error, "__notes__", [])
            print("\n".join([f"{'' if _is_rendered(error) else 'error: '}{error}", *notes]), file=sys.stderr)
            return ExitCode.USAGE_ERROR
        traceback.print_exc()
        return ExitCode.INTERNAL_ERROR


def _import_tensorflow() -> None:
    """Imports TensorFlow for a command, which keeps its memory and says nothing of TensorFlow's but errors."""
    keep_freed_memory()
    quiet.import_tensorflow()
    import tensorflow

    tensorflow.get_logger().setLevel("ERROR")


def _user_errors() -> tuple[type[Exception], ...]:
    """Errors that the user can put right; those of a frontend only if it is loaded: else it raised nothing."""
    from tfcert.datasets import DatasetError
    from tfcert.language import SpecError

    found: tuple[type[Exception], ...] = (UsageError, DatasetError, SpecError, OSError)
    if "tfcert.network.errors" in sys.modules:
        from tfcert.network.errors import KerasVersionError, ModelLoadError, NonFiniteWeightError, UnsupportedLayerError

        found += (KerasVersionError, ModelLoadError, NonFiniteWeightError, UnsupportedLayerError)
    return found


def _is_rendered(error: Exception) -> bool:
    """True where the text already begins with ``error[...]`` for each finding."""
    from tfcert.language import SpecError

    return isinstance(error, SpecError)


def build_parser() -> argparse.ArgumentParser:
    """The verbs and their options."""
    parser = Parser(prog="tfcert", description="Know that a Keras network is robust.")
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for name, (run, arguments, text, example) in _VERBS.items():
        verb = verbs.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example: {example}\n{_CODES.get(name, _RUN_CODES)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.set_defaults(run=run, parser=parser)
        arguments(verb)
    return parser


_RUN_CODES = "exit codes: " + ", ".join(f"{int(code)} {code.words}" for code in ExitCode)
_CODES = {
    "diff": "exit codes: 0 nothing got worse, 1 something did, 2 they cannot be compared",
    "fmt": "exit codes: 0, or 1 where --check finds a file that would change, 4 for one that does not parse",
    "check": "exit codes: 0 no mistakes, 4 mistakes",
    "explain": "exit codes: 0, or 4 for a specification with mistakes",
    "export": "exit codes: 0, or 4 for what cannot be said",
    "supports": "exit codes: 0",
    "dossier": "exit codes: 0, or 4 for a folder of which no dossier can be made",
    "recheck": "exit codes: 0 everything follows and was checked, 1 something differs, 4 there is no dossier",
    "status": "exit codes: 0 the run came to its end, 1 it goes on, 2 it was interrupted, 4 there is none",
    "doctor": "exit codes: 0 usable, 1 something is missing without which nothing works",
    "lsp": "exit codes: 0, or 4 without pygls",
    "completion": "exit codes: 0, or 4 without shtab",
}
"""What verbs exit with that judge nothing."""


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        below = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy", "lark"))
        print(f"tfcert {version('tfcert')} ({below}; Python {platform.python_version()})")
        parser.exit(ExitCode.PASS)


def _verify(options: argparse.Namespace) -> int:
    if asks_vnnlib(options.spec):
        if options.since is not None:
            raise UsageError("--since is for specifications: a VNN-LIB file keeps no run to go on from")
        return verify_vnnlib(options, _import_tensorflow)
    if options.network:
        raise UsageError("--network is for VNN-LIB files; a specification's models are given by --bind NAME=FILE")
    if options.timeout is not None:
        raise UsageError("--timeout is for VNN-LIB files; a specification says its limits in `strategy`")
    from tfcert.driver.start import begin

    _require_json(options.json)
    _require_json(options.junit)
    if len(options.spec) > 1 or Path(options.spec[0]).is_dir():
        return _verify_several(options)
    (path,) = map(Path, options.spec)
    places = {name: getattr(options, name) for name in ("resume", "since", "out", "root")}
    start = begin(path, **names_given(options), **places)
    _import_tensorflow()
    from tfcert.driver.verify import run_verification
    from tfcert.report.runs import SpecRun

    workers = workers_given(options)
    report = run_verification(start, _loudness(options), options.certificates, workers)
    if options.junit:
        write_format("junit", options.junit, [SpecRun(path, report)])
    return _finish(report, options)


def _loudness(options: argparse.Namespace) -> Literal[0, 2, "auto"]:
    return 0 if options.quiet else 2 if options.verbose else "auto"


def _verify_several(options: argparse.Namespace) -> int:
    """Checks all specifications, runs those that ask something, and tells of all in one summary."""
    from tfcert.driver.several import (
        asks,
        checked_all,
        folder_names,
        run_each,
        specifications,
        summary_lines,
    )
    from tfcert.report.formats.json import json_of_all
    from tfcert.report.runs import worst

    paths, given = specifications(options.spec), names_given(options)
    specs = checked_all(paths, given["params"], given["bindings"], options.root)
    asking = [path for path in paths if asks(specs[path]) or str(path) in options.spec]
    for path in (p for p in paths if p not in asking):
        print(f"{path}: asks nothing, and is left out", file=sys.stderr)
    if not asking:
        return ExitCode.NOTHING_TO_CHECK
    names, base = folder_names(asking), Path(options.out or options.resume or "out")
    _import_tensorflow()

    def run(path: Path) -> Report:
        from tfcert.driver.start import begin
        from tfcert.driver.verify import run_verification

        folder = base / names[path]
        resume = folder if options.resume and folder.is_dir() else None
        params, bindings = (
            {name: value for name, value in given[kind].items() if _has(specs[path], name)}
            for kind in ("params", "bindings")
        )
        out = None if resume else folder
        since = Path(options.since) / names[path] if options.since else None
        since = since if since is not None and since.is_dir() else None
        places = {"resume": resume, "since": since, "out": out, "root": options.root}
        start = begin(path, params=params, bindings=bindings, **places)
        report = run_verification(start, _loudness(options), options.certificates, workers)
        print(f"== {path}", file=for_people(options))
        _finish(report, options, several=True)
        return report

    with workers_given(options) or contextlib.nullcontext() as workers:
        runs = run_each(asking, run, _user_errors())
    for failed in (r for r in runs if r.report is None):
        print(f"== {failed.path}\nerror: {failed.error}", file=sys.stderr)
    if options.json:
        write_or_print(options.json, json_of_all(runs))
    if options.junit:
        write_format("junit", options.junit, runs)
    print("\n".join(["", *summary_lines(runs, len(asking) - len(runs))]), file=for_people(options))
    return worst([r.exit_code for r in runs])


def _has(spec: Spec, name: str) -> bool:
    return name in spec.params or name in spec.models or name in spec.datasets


def _explain(options: argparse.Namespace) -> int:
    from tfcert.driver.bind import load_spec
    from tfcert.driver.explain import explain, explanation

    given = names_given(options)
    spec = load_spec(Path(options.spec), **given, root=options.root)
    if options.sample is not None:
        return _explain_sample(options, spec, given["bindings"])
    if options.figures or options.radius is not None:
        raise UsageError("--figures and --radius go with --sample: figures are of one sample's proofs")
    write_json(options.json, explanation(spec))
    print(explain(spec), file=for_people(options))
    return ExitCode.PASS


def _explain_sample(options: argparse.Namespace, spec: Spec, bindings: Mapping[str, Any]) -> int:
    _import_tensorflow()
    from tfcert.driver.artifacts import file_name
    from tfcert.driver.bind import bind
    from tfcert.driver.explain_sample import explain_sample
    from tfcert.report import figures, proof_charts

    if options.figures:
        figures.require_matplotlib()
    shown, told = for_people(options), {}
    for name, found in explain_sample(bind(spec, bindings), options.sample, options.radius):
        print(f"{name}[{options.sample}]: {found}\n", file=shown)
        told[name] = found if isinstance(found, str) else found.as_json()
        if options.figures and not isinstance(found, str):
            path = Path(options.figures) / f"{file_name(name)}-{options.sample}-losses.{options.figure_format}"
            figures.draw(path, proof_charts.plot_losses, found)
            print(f"drawn: {path}\n", file=shown)
    write_json(options.json, {"sample": options.sample, "questions": told})
    return ExitCode.PASS


def _train(options: argparse.Namespace) -> int:
    from tfcert.driver.train.start import begin_training

    start = begin_training(
        Path(options.spec),
        options.objective,
        options.out,
        **names_given(options),
        root=options.root,
        resume=options.resume,
        tensorboard=options.tensorboard,
        widths=options.widths,
    )
    _import_tensorflow()
    from tfcert.driver.train.run import run_training

    silent = options.quiet or options.json == "-"
    trained = run_training(start, verbose=0 if silent else 1 if options.verbose else "auto")
    write_json(options.json, trained.as_json())
    print("\n".join(trained.notes), file=for_people(options))
    return int(trained.exit_code)


def _radius(options: argparse.Namespace) -> int:
    from tfcert.driver.direct.radius import begin_radii, radius_request, run_radii
    from tfcert.driver.journal import JournalFolder

    _require_json(options.json)
    names = (
        "norm", "clip", "limit", "correct", "method", "relaxation", "fallback", "targets", "tolerance",
        "absolute_tolerance", "start", "iterations", "learning_rate", "rounding",
    )  # fmt: skip
    given = {name: getattr(options, name) for name in names}
    folder = JournalFolder(out=options.out, resume=options.resume)
    start = begin_radii(*radius_request(options.model, options.data, given, options.batch, folder), folder)
    _import_tensorflow()
    return _finish(run_radii(start, workers_given(options)), options)


def _distance(options: argparse.Namespace) -> int:
    from tfcert.driver.direct.distance import begin_distances, run_distances
    from tfcert.driver.journal import JournalFolder

    _require_json(options.json)
    names = ("norm", "clip", "limit", *DISTANCES[options.distance].options)
    given = {name: getattr(options, name) for name in names}
    folder = JournalFolder(out=options.out, resume=options.resume)
    start = begin_distances(options.distance, options.model, options.data, given, folder)
    _import_tensorflow()
    return _finish(run_distances(start, workers_given(options)), options)


def _attack(options: argparse.Namespace) -> int:
    from tfcert.driver.direct.attack import attack_samples, require_eps
    from tfcert.driver.direct.request import Request

    _require_json(options.json)
    norm, limit = options.norm or "linf", options.limit or 100
    clip = None if options.clip is None else (options.clip[0], options.clip[1])
    request = Request(options.model, options.data, norm, clip, limit, options.out)
    require_eps(options.eps)
    request.samples  # noqa: B018  (what is wrong with them is said before TensorFlow is loaded)
    _import_tensorflow()
    how = {"steps": options.steps, "restarts": options.restarts, "pool": workers_given(options)}
    return _finish(attack_samples(request, options.eps, **how), options)


def _export(options: argparse.Namespace) -> int:
    return run_export(options, _import_tensorflow)


def _supports(options: argparse.Namespace) -> int:
    return run_supports(options, _import_tensorflow)


def _require_json(path: str | None) -> None:
    from tfcert.driver.files import require_file_writable

    if path is not None and path != "-":
        require_file_writable(Path(path))


def _finish(report: Report, options: argparse.Namespace, several: bool = False) -> int:
    """Shows a report, and writes its JSON unless it is one of several, which are written together."""
    from rich.console import Console

    shown, quiet = for_people(options), options.quiet
    if options.json and not several:
        write_or_print(options.json, report.json_text())
    if not shown.isatty():
        print(report.last_line() if quiet else report, file=shown)
        return int(report.exit_code)
    console = Console(highlight=False, file=shown)
    for part in [] if quiet else report.parts(console.width):
        console.print(part)
    console.print(report.last_line(), markup=False, soft_wrap=True)
    return int(report.exit_code)


_Verb = tuple[Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None], str, str]
_VERBS: dict[str, _Verb] = {
    "verify": (_verify, verify_arguments, "decide every property, measure and assertion of a specification",
        "tfcert verify digits.prop --set eps=8/255 --out out/near --json -"),
    "check": (run_check, check_arguments, "look for mistakes without loading anything", "tfcert check specs/ --json -"),
    "fmt": (run_fmt, fmt_arguments, "lay specifications out: indents and blanks, never a meaning",
        "tfcert fmt specs/ --check"),
    "explain": (_explain, explain_arguments,
        "show the queries, the stages and what they cost, or where proofs about a sample lose",
        "tfcert explain digits.prop --sample 7 --figures out/why"),
    "train": (_train, train_arguments, "train a model until as many samples as possible have a property, by proof",
        "tfcert train digits.prop --objective learn --out clf.keras"),
    "radius": (_radius, radius_arguments, "certify the largest radius around each sample",
        "tfcert radius clf.keras samples.npz --norm l2 --clip 0 1 --limit 50"),
    "minimum": (_distance, minimum_arguments, "find the least perturbation that makes the model fail, with proof",
        "tfcert minimum clf.keras samples.npz --clip 0 1 --time-limit 60"),
    "estimate": (_distance, estimate_arguments,
        "measure how far samples are from another class, by attacks, CLEVER or a Lipschitz constant",
        "tfcert estimate clever clf.keras samples.npz --norm l2"),
    "attack": (_attack, attack_arguments, "look for adversarial inputs near each sample (PGD)",
        "tfcert attack clf.keras samples.npz --eps 8/255 --out found"),
    "export": (_export, export_arguments, "write a specification as VNN-LIB queries, or a query as a specification",
        "tfcert export digits.prop --vnnlib queries"),
    "supports": (_supports, supports_arguments, "say what of ONNX and VNN-LIB is supported, as the standard asks it",
        "tfcert supports --onnx-operators"),
    "report": (run_report, report_arguments, "tell what runs found: as a page, a test report, a table, a comment",
        "tfcert report out/digits --html report.html --junit report.xml"),
    "dossier": (run_dossier, dossier_arguments, "tell of a run, on what it rests and how to check it, on one page",
        "tfcert dossier out/digits"),
    "recheck": (run_recheck, recheck_arguments, "derive a dossier again from its journal, and say what differs",
        "tfcert recheck out/digits"),
    "status": (run_status, status_arguments, "say how far a run is that is going on, here or elsewhere",
        "tfcert status out/digits --every 10"),
    "watch": (run_watch, watch_arguments, "keep the page of a run that is going on up to date",
        "tfcert watch out/digits"),
    "diff": (run_diff, diff_arguments, "say which verdicts changed between two runs of the same questions",
        "tfcert diff out/before out/after"),
    "lsp": (run_lsp, no_arguments, "serve an editor: mistakes, hovers, completion, definitions, renaming, layout",
        "tfcert lsp"),
    "completion": (run_completion, completion_arguments, "print what completes commands in a shell",
        "eval \"$(tfcert completion bash)\""),
    "doctor": (run_doctor, doctor_arguments, "show what is installed and works, and what to do about the rest",
        "tfcert doctor"),
}  # fmt: skip
"""The verbs: what each runs, its arguments, what it does, and an example."""
