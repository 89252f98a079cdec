"""Workers of this machine, at a bench without TensorFlow: what is retried, what is lost, what ends with whom."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tfcert.driver.executor.base import Shard, ShardAnswer, Spent
from tfcert.driver.executor.job import Contents
from tfcert.driver.executor.local import LocalWorkers, device_workers
from tfcert.errors import ExecutorGoneError, UsageError
from tfcert.report import Record
from tfcert.verdict import Outcome, Verdict


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@dataclass
class Numbers:
    """Answers with the name of its process; ``does`` says what happens at some places instead."""

    does: dict[int, str]
    marks: str
    folder: Path = Path()
    pass_mb: int | None = None

    @contextlib.contextmanager
    def open(self, seat):
        if self.does.get(-1) == "dies":
            os._exit(7)
        assert (seat.contents / self.does[-2]).read_bytes() == b"a model" if -2 in self.does else True
        self.folder, self.pass_mb = seat.folder, seat.pass_mb
        yield self

    def answers(self, shard):
        for place in shard.places:
            does = self.does.get(place, "")
            self._do(does, place)
            (self.folder / f"{place}.txt").write_text(str(place))
            said = f"{os.environ['CUDA_VISIBLE_DEVICES']} {self.pass_mb}" if does == "tells" else str(os.getpid())
            yield ShardAnswer(place, Record(shard.question, place, Verdict(Outcome.UNKNOWN, said)))

    def spent(self):
        return Spent(1.0, {"stage": 0.5})

    def _do(self, what, place):
        mark = Path(self.marks, str(place))
        if what == "dies" or (what == "dies once" and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "grows":
            held = b"x" * (700 << 20)
            time.sleep(60)
            del held
        if what == "waits":
            mark.write_text(str(os.getpid()))
            time.sleep(60)
        if what == "fails":
            raise ValueError("no number")
        if what == "fails oddly":
            raise OddError("this", "that")


@dataclass
class Kept:
    """A sink that keeps what it is given."""

    answers: list[ShardAnswer] = field(default_factory=list)
    lost_ones: list[tuple[Shard, str]] = field(default_factory=list)
    seconds: float = 0.0
    alive: int = 0

    def take(self, shard, *answers):
        assert all(answer.place in shard.places for answer in answers)
        self.answers += answers

    def done(self, shard, spent):
        self.seconds += spent.seconds

    def lost(self, shard, why):
        self.lost_ones.append((shard, why))

    def workers(self, alive):
        self.alive = alive

    def places(self):
        return sorted({answer.place for answer in self.answers})


SHARDS = [Shard("q", tuple(range(first, first + 3))) for first in range(0, 12, 3)]


@pytest.fixture(scope="module")
def workers():
    """Two workers that all tests of this module share."""
    with LocalWorkers(2) as found:
        yield found


@pytest.fixture
def run(workers, tmp_path):
    """Runs the shards with what happens at some places."""

    def run_shards(does=(), pool=workers, contents=None, shards=SHARDS):
        sink = Kept()
        with pool.open(Numbers(dict(does), str(tmp_path)), contents or Contents()) as executor:
            executor.run(iter(shards), sink)
        return sink

    return run_shards


def test_every_sample_is_answered_once_by_both_with_its_files(run):
    contents = Contents()
    name = contents.add(b"a model", ".keras")
    sink = run({-2: name}, contents=contents)
    assert [len(sink.answers), sink.places()] == [12, list(range(12))]
    assert all(answer.files == {f"{answer.place}.txt": str(answer.place).encode()} for answer in sink.answers)
    assert sink.seconds == 4.0 and sink.alive == 2


def test_workers_stay_for_the_next_run_and_fewer_can_be_asked(run, workers, monkeypatch):
    before = {answer.record.verdict.reason for answer in run().answers}
    monkeypatch.setattr(workers, "count", 1)
    (one,) = {answer.record.verdict.reason for answer in run().answers}
    assert one in before


def test_a_shard_whose_worker_is_killed_is_answered_all_the_same(run):
    sink = run({4: "dies once"})
    assert sink.places() == list(range(12)) and not sink.lost_ones


def test_a_sample_that_kills_its_worker_twice_is_lost_alone_and_says_of_what(run):
    """Neither a loop, nor an end of the run, nor the loss of its neighbours in the shard."""
    sink = run({4: "dies"})
    assert sink.places() == [place for place in range(12) if place != 4]
    ((shard, why),) = sink.lost_ones
    assert shard.places == (4,) and "ended by SIGKILL" in why


def test_a_worker_that_takes_too_much_memory_is_ended(run):
    with LocalWorkers(1, memory_mb=400) as small:
        sink = run({1: "grows"}, pool=small, shards=[Shard("q", (0,)), Shard("q", (1,)), Shard("q", (2,))])
    assert sink.places() == [0, 2]
    ((shard, why),) = sink.lost_ones
    assert shard.places == (1,) and "MiB, more than a worker may" in why


def test_a_device_gets_a_worker_whose_passes_suit_the_least_memory(run):
    devices = device_workers("cpu=4096, cpu=2048")
    assert [devices.count, devices.pass_mb] == [2, 512] and device_workers("0,1").pass_mb is None
    seen = run({0: "tells", 3: "tells"}, pool=devices)
    assert {answer.record.verdict.reason for answer in seen.answers if answer.place in (0, 3)} == {"-1 512"}
    for wrong in ("gpu", "0=", "0=x", "", "0=1"):
        with pytest.raises(UsageError, match="a device is the number of a GPU"):
            device_workers(wrong)


@pytest.mark.parametrize(
    ("what", "kind", "says"), [("fails", ValueError, "no number"), ("fails oddly", RuntimeError, "this and that")]
)
def test_an_exception_is_the_run_s_and_no_verdict(run, what, kind, says):
    with pytest.raises(kind, match=says):
        run({4: what})
    assert run().places() == list(range(12))  # nothing of the last run is heard in the next one


def test_workers_that_die_while_they_load_end_the_run(run):
    with pytest.raises(ExecutorGoneError, match="exit code 7"):
        run({-1: "dies"})


def test_workers_end_with_a_driver_that_is_killed(tmp_path):
    text = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom test_executor import *\n"
        "with LocalWorkers(1).open(Numbers({0: 'waits'}, sys.argv[2]), Contents()) as executor:\n"
        "    executor.run(iter([Shard('q', (0,))]), Kept())\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", text, str(Path(__file__).parent), str(tmp_path)])
    mark = tmp_path / "0"
    _until(lambda: mark.exists() and mark.read_text() != "")
    driver.kill()
    driver.wait()
    _until(lambda: not _runs(int(mark.read_text())))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
