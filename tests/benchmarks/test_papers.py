"""The page of the five papers is what its lines and the stored records say, and every line has its answer."""

import os
import re
import signal
import threading
import time

import numpy as np
import pytest

from benchmarks.common import data
from benchmarks.common.clock import Clock
from benchmarks.papers import page, records, run, runs
from benchmarks.papers.__main__ import PAGE
from benchmarks.papers.line import Line, Open, papers
from benchmarks.papers.records import NotStored

LINES = [(name, line) for name, paper in papers().items() for line in paper.lines]
FIXED = {
    "run", "runs", "machine", "batches", "images", "targets", "granularity", "best", "gradient_stops_at", "memory_mb",
    "eps", "batch", "depth", "filters", "classes", "kernel", "size", "count", "epochs", "limit", "commit", "seed",
    "jit_compile",
}  # fmt: skip
"""Parts of records that say what was asked, and not what was found."""


ENDS = {"0%", "0.0%", "100%", "100.0%"}
PARSED = records._parsed


def replace(monkeypatch, changed):
    """Puts other records, by name, in place of the stored ones."""

    def parsed(file, when):
        name = f"{file.parent.parent.name}/{file.stem}"
        return changed[name] if name in changed else PARSED(file, when)

    monkeypatch.setattr(records, "_parsed", parsed)


def figures_of(text):
    """The percentages of a text, but those that it says are printed."""
    return re.findall(r"[\d.]+%", re.sub(r"\(printed[^)]*\)", "", text))


def moved(value, rng):
    """A record whose findings are other ones."""
    if isinstance(value, dict):
        return {key: some if key in FIXED else moved(some, rng) for key, some in value.items()}
    if isinstance(value, list):
        return [moved(some, rng) for some in value]
    if isinstance(value, bool) or value is None:
        return not value if isinstance(value, bool) else value
    if isinstance(value, str):
        return {"adversarial": "unknown"}.get(
            value, f"{float(value) * 1.7}" if re.fullmatch(r"\d+(\.\d+)?", value) else value
        )
    return type(value)(value * rng.uniform(0.5, 0.9) + (rng.uniform(2, 9) if isinstance(value, int) else 0))


def test_the_page_is_what_the_lines_and_the_records_say():
    assert PAGE.read_text(encoding="utf-8") == page.page(PAGE.parent), "run: python -m benchmarks.papers --write"


@pytest.mark.parametrize(("name", "line"), LINES, ids=[f"{name}: {line.where}" for name, line in LINES])
def test_a_line_is_measured_or_says_how_it_would_be(name, line):
    assert page.problems(line) == []


@pytest.mark.parametrize(
    ("name", "line"), [some for some in LINES if some[1].answered()[1]], ids=lambda some: getattr(some, "where", some)
)
def test_no_figure_of_a_line_stands_where_its_record_moves(name, line, monkeypatch):
    before, read = line.answered()
    stored, after = {name: records.load(name) for name in read}, []
    for seed in range(4):  # a figure may come out alike by chance, but not each time
        rng = np.random.default_rng(seed)
        changed = {name: moved(some, rng) for name, some in stored.items()}
        replace(monkeypatch, changed)
        after.append(line.answered()[0])
    assert all(text != before for text in after), "the figures do not come from the records"
    figures = [figures_of(text) for text in (before, *after)]
    stand = [some[0] for some in zip(*figures, strict=False) if len(set(some)) == 1 and some[0] not in ENDS]
    assert not stand, f"{stand} stand in the text"


def shortened(result, epochs):
    """A training of a few epochs, if it is one."""
    if "history" not in result:
        return result
    history = {key: values[:epochs] for key, values in result["history"].items()}
    return result | {"history": history, "run": result["run"] | {"epochs": epochs}}


def thinned(name, value, rng):
    """A record of a run that is not done: some of its searches, cases, rows, points or trainings."""
    if isinstance(value, list):
        return [shortened(some, int(rng.integers(1, 4))) for some in value if rng.random() < 0.7]
    if name == runs.MODELS:
        return {key: some for key, some in value.items() if rng.random() < 0.5}
    parts = {}
    for part, some in value.items():
        if part in ("searches", "cases", "points", "steps"):
            kept = [key for key in some if rng.random() < 0.5]
            some = {key: some[key] for key in kept} if isinstance(some, dict) else kept
        if part in ("rows", "peers"):
            some = {key: dict(list(images.items())[: int(rng.integers(0, 5))]) for key, images in some.items()}
        parts[part] = some
    return parts


@pytest.mark.parametrize(
    ("name", "line"), [some for some in LINES if some[1].answered()[1]], ids=lambda some: getattr(some, "where", some)
)
def test_a_line_has_its_row_however_little_of_its_records_there_is(name, line, monkeypatch):
    stored = {name: records.load(name) for name in line.answered()[1]}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        few = {name: thinned(name, some, rng) for name, some in stored.items()}
        replace(monkeypatch, few)
        page.row(line, PAGE.parent)


def test_what_is_wrong_with_a_line_is_found():
    assert page.problems(Line("table 1", "a claim")) == ["nothing is measured, and no open part says how it would be"]
    assert page.problems(Line("table 1", "a claim", measured=lambda: "12.5%")) == [
        "the figures are read from no record"
    ]
    assert page.problems(Line("table 1", "a claim", measured="so", command="benchmarks.absent")) == [
        "there is no module benchmarks.absent"
    ]
    lost = Line(
        "table 1", "a claim", measured="so", command="pytest tests/benchmarks/test_papers.py -k nothing_like_it"
    )
    assert "no test is named nothing_like_it" in page.problems(lost)[0]
    part = Open("large", "benchmarks.radius.run", None, "")
    assert page.problems(Line("table 1", "a claim", open=[part])) == ["large: neither seconds nor a reason"]


def test_a_line_opens_and_closes_with_its_record():
    there = []

    def measured():
        if not there:
            raise NotStored("radius")
        return "12.5%"

    line = Line("table 3", "more", printed="+8%", measured=measured, open=[
        Open("radii", "benchmarks.radius.run", 7200, "small ones", lambda: bool(there))])  # fmt: skip
    assert page.row(line, PAGE.parent)["here"] == "Not measured: radii."
    assert [part.what for part in line.left] == ["radii"]
    there.append(1)
    assert page.row(line, PAGE.parent)["here"] == "12.5%."
    assert line.left == []


@pytest.mark.parametrize(
    ("where", "tables"),
    [("table 3", {"3"}), ("table 3, Dual-LP", {"3"}), ("tables 1, 2, 4; MNIST", {"1", "2", "4"}),
     ("table 2, (iv)", {"2"}),
     ("table IV", {"IV"}), ("table I, FNN3", {"I"}), ("text, search", set()), ("table 2, medium; figure 4", {"2"})],
)  # fmt: skip
def test_the_tables_of_a_line_are_read_from_where_it_is(where, tables):
    assert Line(where, "a claim").tables == tables


STUB = """
import argparse, json, pathlib, sys
from benchmarks.common import store
from benchmarks.common.clock import add_minutes
parser = argparse.ArgumentParser()
parser.add_argument("name")
add_minutes(parser)
arguments = parser.parse_args()
if arguments.name == "wait":
    import os, time
    store.Store(__file__).write("waits", os.getpid())
    time.sleep(600)
if arguments.name == "lost":
    raise SystemExit("mnist.npz is not there")
kept = store.Store(__file__)
kept.write("radius", [*kept.read("radius", []), arguments.name])
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Modules that note what they are asked, in place of the experiments."""
    folder = tmp_path / "stubs" / "radius"
    folder.mkdir(parents=True)
    for part in (folder.parent, folder):
        (part / "__init__.py").write_text("")
    (folder / "run.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{data.REPOSITORY}")
    monkeypatch.setenv("TFCERT_RESULTS", str(tmp_path / "results"))
    return lambda: records.load("radius/radius")


def test_commands_run_once_each_and_what_fails_ends_its_chain_alone(stub, capfd):
    runner = run.Runner(Clock())
    for chain in (("stubs.radius.run a",), ("stubs.radius.run lost", "stubs.radius.run never"), ("stubs.radius.run a",),
                  ("stubs.radius.run b",)):  # fmt: skip
        runner.run(chain)
    assert stub() == ["a", "b"]
    assert runner.failed == ["stubs.radius.run lost"]
    assert capfd.readouterr().err == "mnist.npz is not there\n"


def test_nothing_is_begun_after_the_minutes(stub):
    runner = run.Runner(Clock(0))
    runner.run(("stubs.radius.run a",))
    with pytest.raises(NotStored):
        stub()


def test_an_interrupt_ends_what_runs_and_keeps_what_there_is(stub):
    def interrupt():
        while not records.stored(lambda: records.load("radius/waits")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    runner, before = run.Runner(Clock()), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        runner.run(("stubs.radius.run a",))
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            runner.run(("stubs.radius.run wait",))
    finally:
        signal.signal(signal.SIGINT, before)
    assert stub() == ["a"]
    with pytest.raises(ProcessLookupError):
        os.kill(records.load("radius/waits"), 0)


def test_commands_of_open_parts_come_last_and_tests_are_left_out():
    lines = [
        Line("table 1", "first", command="pytest tests/soundness"),
        Line("table 1", "second", command=("a.train", "a.run"), open=[
            Open("more", "a.more", 60, "little"),
            Open("closed", "a.closed", 60, "all", lambda: True),
            Open("never", "a.never", None, "no data")]),
        Line("table 1", "third", command=("a.train", "a.run")),
    ]  # fmt: skip
    assert run.chains(lines) == [("a.train", "a.run"), ("a.more",)]


def test_the_runner_shows_a_table_without_results_and_writes_a_page_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFCERT_RESULTS", "is set by it")
    monkeypatch.setattr("sys.argv", ["run", "cnncert", "--table", "3", "--show", "--into", str(tmp_path)])
    run.main()
    assert "not measured yet" in capsys.readouterr().out
    written = (tmp_path / "reproduction.md").read_text()
    assert "| table 3 | adaptive slopes certify more than Fast-Lin | +14 to +25% | Not measured" in written


def test_a_table_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(SystemExit, match="no line of DeepCert is about table 9; there are lines about 1, 2"):
        run.chosen(papers()["deepcert"], "9")
