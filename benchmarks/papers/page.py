"""``docs/reproduction.md`` from the papers' lines, and what is wrong with a line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import data, store
from benchmarks.papers.line import Line, Open, Paper, commands, papers
from benchmarks.papers.records import NotStored, path

HEAD = """\
# What five papers claim, and what reproduces here

This page is written by `python -m benchmarks.papers --write` from `benchmarks/papers/`, one module a paper. Every
figure in the column "here" is computed from the stored record that the line names, so it cannot differ from it; a line
without one is answered by a test or by the paper's own pages, or it is open. "Printed" are the paper's figures.

`make reproduce-cnncert`, `-deepcert`, `-agrify`, `-constrained-ibp` and `-abscert` run a paper's lines from nothing,
those of one table with `TABLE=3`, for so many minutes with `MINUTES=60`; another run goes on from there. It trains what
is needed, keeps its results in `out/reproduced/`, away from the stored ones, prints what is printed beside what it
measures, and writes a page like this of it. What data it needs, and where to put them, is in `benchmarks/README.md`.
Commands below run from the repository's root with `.venv/bin/python` as `python`.

{contents}
"""
ELSEWHERE = """
**These are the figures of a run of its own.** The words around them were written for the results that come with tfcert.
"""
_TESTS = "pytest"
_NAMED = 3
"""So many open parts of a line are named in its row."""


def page(at: Path) -> str:
    """The whole page as Markdown, for a file in the folder ``at``."""
    found = papers()
    contents = "\n".join(f"- [{paper.title}](#{_anchor(paper.title)}): {paper.source}" for paper in found.values())
    sections = [section(paper, at) for paper in found.values()]
    head = HEAD.format(contents=contents) + (ELSEWHERE if at != data.REPOSITORY / "docs" else "")
    return "\n".join([head, *sections, _all_open(found.values())])


def section(paper: Paper, at: Path) -> str:
    """One paper's section: what holds for every line, then its lines."""
    rows = [row(line, at) for line in paper.lines]
    parts = [f"## {paper.title}", paper.holds.strip(), store.markdown(rows), paper.after().strip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def row(line: Line, at: Path) -> dict[str, str]:
    """A line as a row of the table."""
    text, read = line.answered()
    said = [_sentence(part) for part in (text, line.note, _left(line.left)) if part]
    return {
        "where": line.where,
        "claim": line.claim,
        "printed": line.printed,
        "here": _cell(" ".join(said)),
        "record": _cell(_records(line, text, read, at)),
        "command": _cell(shown(line.commands)),
    }


def _left(parts: Sequence[Open]) -> str:
    if len(parts) > _NAMED:
        return f"Not measured: {len(parts)} parts, at the end of the page"
    return f"Not measured: {'; '.join(part.what for part in parts)}" if parts else ""


def shown(some: Sequence[str]) -> str:
    """Commands as a reader types them; the ones before the last only train its networks."""
    return f"`python -m {some[-1]}`" if some else ""


def problems(line: Line) -> list[str]:
    """What a line lacks: an answer with its record or test, or an open part with command and seconds."""
    text, read = line.answered()
    wrong = []
    if not text and not line.left:
        wrong.append("nothing is measured, and no open part says how it would be")
    if callable(line.measured) and text and not read:
        wrong.append("the figures are read from no record")
    wrong += [f"there is no {path(name)}" for name in read if not path(name).exists()]
    wrong += [part for command in line.commands for part in _untrue(command)]
    for part in line.open:
        wrong += [untrue for command in commands(part.command) for untrue in _untrue(command)]
        if part.seconds is None and not part.largest:
            wrong.append(f"{part.what}: neither seconds nor a reason")
    return wrong


def _untrue(command: str) -> list[str]:
    """What of a command is not there: its module, or its test."""
    words = command.split()
    if words[0] != _TESTS:
        file = data.REPOSITORY / (words[0].replace(".", "/") + ".py")
        package = data.REPOSITORY / words[0].replace(".", "/") / "__main__.py"
        return [] if file.exists() or package.exists() else [f"there is no module {words[0]}"]
    files = [data.REPOSITORY / word for word in words[1:] if word.startswith("tests/")]
    wrong = [f"there is no {file}" for file in files if not file.exists()]
    if "-k" in words and not wrong:
        wanted = words[words.index("-k") + 1]
        if not any(re.search(rf"def test\w*{wanted}", source) for source in _sources(files)):
            wrong.append(f"no test is named {wanted} in {', '.join(map(str, files))}")
    return wrong


def _sources(files: Sequence[Path]) -> list[str]:
    each = [found for file in files for found in (sorted(file.rglob("test_*.py")) if file.is_dir() else [file])]
    return [file.read_text(encoding="utf-8") for file in each]


def _records(line: Line, text: str, read: dict[str, list[str]], at: Path) -> str:
    if read:
        return ", ".join(_record(name, keys, at) for name, keys in read.items())
    if not text:
        return "none yet"
    return "test" if any(command.startswith(_TESTS) for command in line.commands) else "the paper"


def _record(name: str, keys: Sequence[str], at: Path) -> str:
    link = f"[{path(name).stem}]({os.path.relpath(path(name), at)})"
    if not keys:
        return link
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{link}: `{keys[0]}`{more}"


def _all_open(found: Sequence[Paper]) -> str:
    """The section of everything that is not measured."""
    text = (
        "## What stays open\n\nOf all five papers, with the command, the time that it takes on two cores (foretold "
        "from the largest\nsize that ran), and that size. Runs can be stopped and go on.\n"
    )
    for paper in found:
        rows = [_open_row(line, part) for line in paper.lines for part in line.left]
        if rows:
            text += f"\n**{paper.title}**\n\n{store.markdown(rows)}\n"
    return text


def _open_row(line: Line, part: Open) -> dict[str, str]:
    try:
        largest = part.largest if isinstance(part.largest, str) else part.largest()
    except NotStored:
        largest = "none"
    return {
        "where": line.where,
        "what": _cell(part.what),
        "command": _cell(shown(commands(part.command))),
        "time": "" if part.seconds is None else duration(part.seconds),
        "largest size that ran": _cell(largest),
    }


def duration(seconds: float) -> str:
    """Seconds in words, to two digits."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!")) else f"{text}."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
