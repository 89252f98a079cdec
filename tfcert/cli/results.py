"""Verbs about results of other runs: ``tfcert report | dossier | recheck | status | watch | diff``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfcert.catalog import REPORTS
from tfcert.cli.arguments import figure_arguments, json_argument, positive, quiet_argument
from tfcert.cli.output import for_people, write_json, write_or_print
from tfcert.errors import UsageError
from tfcert.showing import counted

if TYPE_CHECKING:
    from tfcert.report.records import Record
    from tfcert.report.runs import SpecRun


def diff_arguments(parser: argparse.ArgumentParser) -> None:
    """Two results, and how they are told."""
    parser.add_argument("old", metavar="OLD", help="the folder of a run, or its result.json")
    parser.add_argument("new", metavar="NEW", help="those of a later run of the same specification")
    json_argument(parser, "what changed")
    quiet_argument(parser)
    parser.add_argument(
        "--tolerance", type=float, default=None, metavar="T",
        help="by what part of itself a certified radius or share may fall and not be worse (default: 0.01)",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show every answer that changed, however many")


def dossier_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder of a run."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run that `tfcert verify` wrote")
    json_argument(parser, "the files and the last hash of the chain")
    quiet_argument(parser, "say nothing but mistakes")


def run_dossier(options: argparse.Namespace) -> int:
    """Writes the dossier of a run; exit code 0."""
    from tfcert.dossier.recheck import write_dossier

    page, data, dossier = write_dossier(options.folder)
    last = dossier["content"]["chain"][-1]["sha256"]
    write_json(options.json, {"page": str(page), "data": str(data), "sha256": last})
    if not options.quiet:
        print(f"written: {page} and {data}; the last hash of its chain is {last}", file=for_people(options))
    return 0


def recheck_arguments(parser: argparse.ArgumentParser) -> None:
    """A dossier."""
    parser.add_argument("dossier", metavar="DIR", help="the folder that holds a dossier, or one of its files")
    json_argument(parser, "what differs as a list of sentences")
    quiet_argument(parser, "say nothing where nothing differs")


def run_recheck(options: argparse.Namespace) -> int:
    """Derives a dossier again and says what differs. Exit code 0: nothing, 1: something."""
    from tfcert.dossier.recheck import recheck

    found = recheck(options.dossier)
    write_json(options.json, found)
    if found or not options.quiet:
        fine = f"{options.dossier}: everything follows from the journal, and was checked"
        print("\n".join(found) if found else fine, file=for_people(options))
    return 1 if found else 0


def run_diff(options: argparse.Namespace) -> int:
    """Says which verdicts changed. Exit code 0: nothing got worse, 1: something did, 2: they cannot be compared."""
    from rich.console import Console

    from tfcert.report.changes import MOST_CHANGES
    from tfcert.report.difference import TOLERANCE, DiffCode, diff
    from tfcert.report.table import render

    try:
        found = diff(options.old, options.new, tolerance=TOLERANCE if options.tolerance is None else options.tolerance)
        write_json(options.json, found.as_json())
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return DiffCode.NOT_COMPARABLE
    parts = found.parts(len(found.changes) if options.all else MOST_CHANGES)
    shown = for_people(options)
    if shown.isatty():
        console = Console(highlight=False, file=shown)
        for part in [] if options.quiet else parts:
            console.print(part)
    elif not options.quiet:
        print(render(parts), file=shown)
    print(found.last_line(), file=shown)
    return int(found.exit_code)


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """Where results are, and the formats to write them in."""
    parser.add_argument(
        "results", metavar="RESULT", nargs="+",
        help="folders of runs (of those that are going on, too), or the JSON files that runs have written",
    )  # fmt: skip
    for name, form in REPORTS.items():
        parser.add_argument(f"--{name}", metavar="FILE", help=f"write {form.about}; `-` for the standard output")
    figure_arguments(parser, "accuracy over the radius, radii (by class, too) and times")
    quiet_argument(parser, "say nothing but mistakes")


def run_report(options: argparse.Namespace) -> int:
    """Writes the formats that are asked for; without any it prints the tables. Exits as the run did."""
    from tfcert.report.runs import worst

    runs = [run for place in options.results for run in read_any(Path(place))]
    wanted = {name: getattr(options, name) for name in REPORTS if getattr(options, name) is not None}
    if list(wanted.values()).count("-") > 1:
        raise UsageError("only one format can go to the standard output")
    for name, target in wanted.items():
        write_format(name, target, runs, quiet=options.quiet)
    if options.figures:
        _draw(runs, Path(options.figures), options.figure_format, quiet=options.quiet)
    if not wanted and not options.figures and not options.quiet:
        for run in runs:
            print("\n".join([f"== {run.path}"] * (len(runs) > 1) + [str(run.report or f"error: {run.error}")]))
    return int(worst([run.exit_code for run in runs]))


def _draw(runs: Sequence[SpecRun], folder: Path, kind: str, *, quiet: bool = False) -> None:
    """Draws the charts of runs, each in a folder of its own where there are several."""
    from tfcert.report.gallery import write_charts

    reports = [(run.path.stem, run.report) for run in runs if run.report is not None]
    for number, (name, report) in enumerate(reports, start=1):
        where = folder / f"{number}-{name}" if len(reports) > 1 else folder
        for drawn in write_charts(report, where, kind):
            if not quiet:
                print(f"drawn: {drawn}", file=sys.stderr)


def read_any(place: Path) -> list[SpecRun]:
    """The runs at a place: finished ones, or one that is going on or was killed, from its journal.

    A run writes its result last: an older one is of an earlier run in the same folder.
    """
    from tfcert.driver.journal import FILE_NAME, read_journal
    from tfcert.report.reading import read_runs, run_of

    if (place / FILE_NAME).is_file() and not has_result(place):
        header, records = read_journal(place / FILE_NAME)
        return [run_of(header | {"complete": False}, records, place)]
    return read_runs(place)


def has_result(folder: Path) -> bool:
    """Tells whether the result in a folder is that of the run whose journal is there, or there is no journal."""
    from tfcert.driver.journal import FILE_NAME
    from tfcert.report.stored import RESULT

    journal, result = folder / FILE_NAME, folder / RESULT
    if not journal.is_file():
        return True
    return result.is_file() and result.stat().st_mtime_ns >= journal.stat().st_mtime_ns


def write_format(name: str, target: str, runs: Sequence[SpecRun], quiet: bool = False) -> None:
    """Writes runs in a format to a file, or to the standard output for ``-``."""
    write_or_print(target, REPORTS[name].load()(runs))
    if target != "-" and not quiet:
        print(f"written: {target}", file=sys.stderr)


def watch_arguments(parser: argparse.ArgumentParser) -> None:
    """A run that is going on, and where its page is written."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run")
    parser.add_argument("--html", metavar="FILE", help="where the page goes (default: DIR/report.html)")
    parser.add_argument(
        "--every", type=positive, default=5, metavar="SECONDS", help="how often it is written anew (default: 5)"
    )
    quiet_argument(parser, "say nothing but mistakes")


def run_watch(options: argparse.Namespace) -> int:
    """Keeps the page of a run up to date until the run has ended, and exits as it did. Ctrl-C ends it sooner."""
    import time

    from tfcert.driver.status import Follower
    from tfcert.report.formats.page import page_text
    from tfcert.report.json import write_text
    from tfcert.report.reading import run_of

    folder = Path(options.folder)
    target = Path(options.html or folder / "report.html")
    follower: Follower | None = None
    records: list[Record] = []
    seen = None
    while not has_result(folder):
        if follower is None or not follower.current:
            follower, records, seen = Follower(folder), [], None
        records += follower.records()
        if len(records) != seen:
            run = run_of(follower.header | {"complete": False}, records, folder)
            write_text(target, page_text([run], options.every))
            if not options.quiet:
                print(f"{target}: {counted(len(records), 'answer')}, the run is going on", flush=True)
            seen = len(records)
        time.sleep(options.every)
    (run,) = read_any(folder)
    assert run.report is not None  # a folder is that of one run
    write_text(target, page_text([run], 0))
    if not options.quiet:
        print(f"{target}: {counted(len(run.report.records), 'answer')}", flush=True)
    return int(run.exit_code)


def status_arguments(parser: argparse.ArgumentParser) -> None:
    """A run that is going on, and how it is told."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run")
    json_argument(parser, "what it says")
    quiet_argument(parser, "say only the sentence at the end")
    parser.add_argument("--every", type=positive, metavar="SECONDS", help="tell it again, until the run has ended")


def run_status(options: argparse.Namespace) -> int:
    """Says how far a run is. Exit code 0: it came to its end, 1: it goes on, 2: it was interrupted."""
    import time

    from tfcert.driver.status import FINISHED, GOING_ON, Follower, Status

    follower = Follower(options.folder)
    while True:
        state = follower.state  # before the lines: a run that ends in between has written all of them
        follower.look()
        if state != GOING_ON:
            state = follower.state
        status = Status(Path(options.folder), state, follower.tally, time.time())
        write_json(options.json, status.as_json())
        print(status.sentence() if options.quiet else status, file=for_people(options), flush=True)
        if state != GOING_ON or options.every is None:
            return {GOING_ON: 1, FINISHED: 0}.get(state, 2)
        time.sleep(options.every)
        if not follower.current:
            follower = Follower(options.folder)
