"""What a run says on standard error while a solver works."""

from __future__ import annotations

import io
import math
import time

import pytest
from rich.console import Console

from tfcert.driver import progress
from tfcert.driver.progress import Narrator, Standing
from tfcert.report.records import Asked, Measured, Record
from tfcert.verdict import Guarantee, Outcome, Verdict

MEASURE = """\
strategy search = pgd -> crown -> milp
measure least(x, y in test) = smallest r in [0, 0.3] such that
  exists z in ball(x, linf, r) within [0, 1] in raw: argmax(clf(z)) != y
  using search
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard error a terminal, from the call on (pytest sets its own between a fixture and its test)."""

    def attach() -> Terminal:
        stream = Terminal()
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return attach


def measured(sample, lower, upper):
    verdict = Verdict(Outcome.VERIFIED, stage="milp", guarantee=Guarantee.SOLVER, seconds=2.5)
    return Record("least", sample, verdict, Asked(quantifier="exists"), Measured(lower, upper))


def table(narrator):
    """What is on the terminal now, as lines of words."""
    console = Console(file=io.StringIO(), width=100)
    console.print(narrator._shown())
    return [line.split() for line in console.file.getvalue().splitlines()]


def rows(narrator):
    return [words for words in table(narrator) if len(words) == 6 and words[0].isdigit()]


@pytest.mark.parametrize(
    ("lower", "upper", "gap"),
    [(0.75, 1.0, 0.25), (1.0, 1.0, 0.0), (1.5, 1.0, 0.0), (math.nan, 1.0, math.nan), (0.5, math.inf, math.nan)],
)
def test_the_gap_is_a_share_of_the_incumbent(lower, upper, gap):
    assert Standing(0, lower, upper, 1.0).gap == pytest.approx(gap, nan_ok=True)


@pytest.mark.parametrize(("verbose", "lines"), [(2, 3), ("auto", 0), (0, 0)])
def test_where_there_is_no_terminal_changes_are_lines_for_those_who_ask(capsys, verbose, lines):
    with Narrator(verbose) as narrator:
        narrator.begin("least", 9, what="the smallest radius")
        for upper in (math.nan, 0.5, 0.5, 0.25):
            narrator.watch(Standing(4, 0.125, upper, 3.0))
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == lines
    if lines:
        assert err.splitlines()[-1] == "least[4]: bound 0.125, incumbent 0.25, gap 50%, 3.0 s"


def test_a_long_search_is_not_silent_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with Narrator() as narrator:
        narrator.begin("least", 9)
        time.sleep(0.01)
        narrator.watch(Standing(4, 0.125, math.inf, 3.0))
    assert capsys.readouterr().err == "least[4]: bound 0.125, incumbent -, gap -, 3.0 s\n"


def test_the_table_holds_the_last_samples_and_the_current_one_s_seconds_go_on(terminal):
    terminal()
    narrator = Narrator()
    narrator.begin("least", 20, what="the smallest radius (linf, unit space)")
    for sample in range(9):
        narrator.watch(Standing(sample, 0.1, 0.2, 1.0))
        if sample < 8:
            narrator.advance(measured(sample, 0.2, 0.2))
    time.sleep(0.11)
    shown = rows(narrator)
    assert [row[0] for row in shown] == ["3", "4", "5", "6", "7", "8"]
    assert shown[0] == ["3", "0.2", "0.2", "0%", "2.5", "verified"]
    assert shown[-1][:4] == ["8", "0.1", "0.2", "50%"] and float(shown[-1][4]) >= 1.1 and shown[-1][5] == "..."
    assert ["least:", "the", "smallest", "radius", "(linf,", "unit", "space)"] in table(narrator)


def test_a_stage_that_is_prepared_is_named_until_it_is_ready(terminal, capsys):
    with Narrator(2) as narrator:
        narrator.begin("least", 2)
        with narrator.preparing("split"):
            pass
    assert capsys.readouterr().err == "least: preparing split\n"
    terminal()
    narrator = Narrator()
    narrator.begin("least", 2)
    with narrator.preparing("split"):
        assert table(narrator)[0][:3] == ["least:", "preparing", "split"]
    assert table(narrator)[0][0] == "least"


def test_samples_that_no_solver_saw_are_not_in_the_table(terminal):
    terminal()
    narrator = Narrator()
    narrator.begin("least", 2)
    narrator.advance(measured(0, 0.1, 0.2))
    assert not rows(narrator)


def test_a_new_property_begins_with_an_empty_table(terminal):
    terminal()
    narrator = Narrator()
    narrator.begin("least", 2)
    narrator.watch(Standing(0, 0.1, 0.2, 1.0))
    narrator.begin("most", 2)
    assert not rows(narrator)


@pytest.mark.parametrize(("witness", "cells"), [(None, ["0.5", "-"]), ("w.npz", ["-", "0.5"])])
def test_a_property_s_margin_is_a_bound_if_proven_and_else_its_witness_s(terminal, witness, cells):
    terminal()
    narrator = Narrator()
    narrator.begin("robust", 1)
    narrator.watch(Standing(0, -1.0, math.nan, 1.0))
    verdict = Verdict(Outcome.VERIFIED, guarantee=Guarantee.SOLVER, margin=0.5)
    narrator.advance(Record("robust", 0, verdict, witness=witness))
    assert rows(narrator)[0][1:3] == cells


def test_a_silent_narrator_draws_nothing_on_a_terminal(terminal):
    stream = terminal()
    with Narrator(0) as narrator:
        narrator.begin("least", 1)
        narrator.watch(Standing(0, 0.1, 0.2, 1.0))
        narrator.advance(measured(0, 0.1, 0.2))
    assert stream.getvalue() == ""


def test_a_run_tells_of_every_sample_that_a_solver_narrows_in_the_measure_s_own_space(run, monkeypatch, samples):
    """Raw values are twice what the network sees."""
    told: dict[int, list[Standing]] = {}
    watch = Narrator.watch

    def remember(self, standing):
        told.setdefault(standing.sample, []).append(standing)
        watch(self, standing)

    monkeypatch.setattr(Narrator, "watch", remember)
    text = 'prop 1\nmodel clf = keras("clf.keras")\ndataset test = npz("test.npz") { scale: 1/2 }\n'
    text += MEASURE.replace("[0, 0.3]", "[0, 0.6]").replace("within [0, 1]", "within [0, 2]")
    report = run(text=text, bindings={"test": (2 * samples[0], samples[1])})
    found = {r.sample: r.measured for r in report.records if r.verdict.stage == "milp"}
    assert found and found.keys() <= told.keys()
    for sample, standings in told.items():
        final = next(r.measured for r in report.records if r.sample == sample)
        assert all(s.lower <= final.lower * (1 + 1e-9) for s in standings if math.isfinite(s.lower))
        assert all(s.upper >= final.upper * (1 - 1e-6) for s in standings if math.isfinite(s.upper))
        assert [s.seconds for s in standings] == sorted(s.seconds for s in standings)
        assert len(standings) > 1
        assert math.isnan(final.upper) or standings[-1].upper == pytest.approx(final.upper, rel=1e-3)
