"""How far a run is: what its journal adds up to, for bars and for ``tfcert status`` alike."""

from __future__ import annotations

import json
import math
import time

import pytest
from test_journal import HEADER, record

from tfcert.cli.main import main
from tfcert.driver import progress
from tfcert.driver.journal import FILE_NAME, JournalFolder
from tfcert.driver.progress import Narrator
from tfcert.driver.status import FINISHED, GOING_ON, INTERRUPTED, Follower, Status
from tfcert.driver.tally import Tally, duration, speed
from tfcert.errors import JournalError

ASKED = HEADER | {"asked": {"p": 10, "q": 4}}
WRITER = {"pid": 7, "host": "far", "at": 100.0}


def answer(sample, at, outcome="verified", name="p", seconds=0.5, worker=""):
    flat = record(sample).as_json() | {"property": name, "outcome": outcome, "seconds": seconds}
    return {"record": flat, "at": at} | ({"worker": worker} if worker else {})


def tally(*lines):
    found = Tally()
    for line in ({"header": ASKED, "writer": WRITER}, *lines):
        found.take(line)
    return found


def test_rates_count_from_the_beginning_of_a_question_in_this_run():
    """Catches a rate that a batch's answers, which come at once, or a night's break make absurd."""
    found = tally(*(answer(i, 104.0) for i in range(4)))
    p, q = found.questions["p"], found.questions["q"]
    assert (p.rate(108.0), p.remaining(108.0)) == (0.5, 12.0)
    assert p.remaining(112.0) == 18.0  # nothing more came: it takes longer than was thought
    assert math.isnan(q.rate(108.0)) and math.isnan(q.remaining(108.0))
    for i in range(4, 10):
        found.take(answer(i, 120.0))
    assert p.over and p.rate(999.0) == 0.5 and p.remaining(999.0) == 0.0
    found.take(answer(0, 124.0, name="q"))
    assert q.rate(124.0) == 0.25  # since p came to its end
    found.take({"resumed": WRITER | {"at": 1000.0}})
    found.take(answer(1, 1002.0, name="q"))
    assert q.rate(1004.0) == 0.25 and q.remaining(1004.0) == 8.0


def test_answers_that_decide_nothing_slow_samples_and_workers_are_told_apart():
    found = tally(
        {"workers": 2, "at": 100.0},
        answer(0, 101.0, worker="a"),
        answer(3, 102.0, "unknown", seconds=7.5, worker="b"),
        answer(2, 103.0, "timeout", worker="a"),
        answer(1, 104.0, "falsified"),
    )
    p = found.questions["p"]
    assert (p.done, p.undecided, p.slowest, p.seconds) == (4, 2, (3, 7.5), 9.0)
    assert found.workers == {"a": (2, 103.0), "b": (1, 102.0)} and found.words() == "2 workers"
    assert p.words(104.0) == "1/s, 6 s left, slowest 3: 7.5 s"
    found.take({"finished": True, "at": 105.0})
    assert found.finished and found.alive == 0


def test_a_run_tells_of_itself_what_another_process_reads(tmp_path, capsys, monkeypatch):
    """Catches bars and status that count differently, and lines that are read twice or before they are whole."""
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(progress, "PLAIN_SHARE", 0.0)
    with JournalFolder(out=tmp_path).open(ASKED, print) as journal, Narrator() as narrator:
        follower = Follower(tmp_path)
        narrator.follow(journal.tally)
        narrator.begin("p", 10)
        journal.workers(3)
        for i in range(4):
            time.sleep(0.002)
            journal.append(record(i), "here")
            narrator.advance(record(i))
            follower.look()
            assert follower.tally == journal.tally
        assert follower.state == GOING_ON and follower.current
        with (tmp_path / FILE_NAME).open("a") as file:
            line = json.dumps(answer(4, 1.0))
            file.write(line[:50])
            file.flush()
            follower.look()
            assert follower.tally == journal.tally
            file.write(line[50:] + "\n")
        assert [r.sample for r in follower.records()] == [4] and list(follower.records()) == []
    assert follower.tally.questions["p"].done == 5 and follower.state == INTERRUPTED
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and said[-1].startswith("p: 4 of 10 (") and said[-1].endswith(", 3 workers)")
    with JournalFolder(resume=tmp_path).open(ASKED, print) as journal:
        assert journal.append(record(5)) and journal.tally.questions["p"].done == 6
        journal.finish()
    follower.look()
    assert follower.state == FINISHED
    with JournalFolder(out=tmp_path).open(ASKED, print):
        assert not follower.current


def test_status_says_who_writes_how_fast_and_what_is_left(tmp_path, capsys):
    with JournalFolder(out=tmp_path).open(ASKED, print) as journal:
        journal.append(record(2), "one")
        assert main(["status", str(tmp_path)]) == 1
        out = capsys.readouterr().out
        assert "p         1 of 10        1          0" in out and "going on, by process" in out
        assert "1 question not begun" in out and "one" in out
    assert main(["status", str(tmp_path), "--json", "-"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == INTERRUPTED and found["questions"][1]["done"] == 0
    assert (
        found["slowest"] == {"property": "p", "sample": 2, "seconds": 0.25} and found["workers"][0]["worker"] == "one"
    )
    assert "goes on with it" in str(Status(tmp_path, INTERRUPTED, tally(), 0.0))
    with JournalFolder(resume=tmp_path).open(ASKED, print) as journal:
        journal.finish()
    assert main(["status", str(tmp_path), "--every", "1"]) == 0


def test_without_a_journal_there_is_no_status(tmp_path):
    with pytest.raises(JournalError, match=r"has no journal.jsonl"):
        Follower(tmp_path)
    with pytest.raises(JournalError, match=r"there is no folder"):
        Follower(tmp_path / "missing")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.25 s"), (59.0, "59 s"), (61.2, "1 min 1 s"), (3600, "1 h"), (7384, "2 h 3 min"), (180000, "2 d 2 h")],
)
def test_times_have_their_two_largest_units(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(("rate", "words"), [(1234.4, "1,234/s"), (2.5, "2.5/s"), (0.5, "30/min"), (0.005, "18/h")])
def test_rates_are_numbers_that_can_be_read(rate, words):
    assert speed(rate) == words
