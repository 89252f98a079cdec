"""Several specifications in one run: each has its own folder; one summary and one exit code tell of all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcert.driver.bind import load_spec
from tfcert.errors import ExitCode, UsageError
from tfcert.language import Diagnostic, Spec, SpecError
from tfcert.report import Report
from tfcert.report.runs import SpecRun, worst
from tfcert.showing import counted


def specifications(given: Sequence[str]) -> list[Path]:
    """The files that were named, and those of the folders that were named, in the order of their paths.

    Raises:
        UsageError: there is no such file or folder, or none in a folder.
    """
    found: dict[Path, None] = {}
    for name in given:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*.prop") if p.is_file())
            if not inside:
                raise UsageError(f"there is no specification (*.prop) in {path}")
            found |= dict.fromkeys(inside)
        elif path.is_file():
            found[path] = None
        else:
            raise UsageError(f"there is no specification {name}")
    return list(found)


def checked_all(
    paths: Sequence[Path], params: Mapping[str, Any], bindings: Mapping[str, Any], root: str | Path | None = None
) -> dict[Path, Spec]:
    """All specifications, checked before any of them is run.

    Raises:
        SpecError: with everything that is wrong with any of them.
        UsageError: a value or a file is given for a name that none of them has.
    """
    found: dict[Path, Spec] = {}
    wrong: list[Diagnostic] = []
    for path in paths:
        try:
            found[path] = load_spec(path, params, bindings, root=root, shared=True)
        except SpecError as error:
            wrong += error.diagnostics
    if any(d.is_error for d in wrong):
        raise SpecError(tuple(wrong))
    require_known(list(found.values()), params, bindings)
    return found


def require_known(specs: Sequence[Spec], params: Mapping[str, Any], bindings: Mapping[str, Any]) -> None:
    """Checks that some specification has each name that something is given for.

    Raises:
        UsageError: none has.
    """
    for name in params:
        if not any(name in spec.params for spec in specs):
            raise UsageError(f"none of the {len(specs)} specifications has a parameter {name}")
    for name in bindings:
        if not any(name in spec.models or name in spec.datasets for spec in specs):
            raise UsageError(f"none of the {len(specs)} specifications has a model or a data set {name}")


def asks(spec: Spec) -> bool:
    """Tells whether a specification asks anything: files of templates and definitions for others do not."""
    return bool(spec.properties or spec.measures or spec.assertions or spec.reports)


def folder_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each specification's folder: that of the file, with those of its folders where two are alike."""
    stems = [path.stem for path in paths]
    common = os.path.commonpath([path.resolve().parent for path in paths])
    names = {}
    for path in paths:
        parts = path.resolve().relative_to(common).with_suffix("").parts
        names[path] = path.stem if stems.count(path.stem) == 1 else "-".join(parts)
    if len(set(names.values())) < len(names):
        names = {path: f"{place}-{name}" for place, (path, name) in enumerate(names.items(), start=1)}
    return names


def run_each(paths: Sequence[Path], run: Callable[[Path], Report], wrong: tuple[type[Exception], ...]) -> list[SpecRun]:
    """Runs one specification after the other; an error of one (of these types) keeps no other from its run.

    After an interruption the rest is left out.
    """
    runs: list[SpecRun] = []
    for path in paths:
        try:
            runs.append(SpecRun(path, run(path)))
        except wrong as error:
            runs.append(SpecRun(path, None, "\n".join([str(error), *getattr(error, "__notes__", [])])))
        if runs[-1].exit_code is ExitCode.INTERRUPTED:
            break
    return runs


def summary_lines(runs: Sequence[SpecRun], left_out: int = 0) -> list[str]:
    """A line for each specification, and one for all."""
    words = {run.path: run.outcome for run in runs}
    width = max(len(str(path)) for path in words)
    lines = []
    for run in runs:
        where = run.error.splitlines()[0] if run.report is None else f"results in {run.report.folder}"
        lines.append(f"{run.path!s:<{width}}  {words[run.path]:<16}  {where}")
    counts = [f"{list(words.values()).count(word)} {word}" for word in dict.fromkeys(words.values())]
    code = worst([run.exit_code for run in runs])
    rest = f", {left_out} not run" if left_out else ""
    lines.append(f"{counted(len(runs), 'specification')}: {', '.join(counts)}{rest} (exit code {int(code)})")
    return lines
