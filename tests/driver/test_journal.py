"""The append-only journal: what survives a kill, and what refuses to be resumed."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faked import BOUNDS, of_clauses

from tfcert.driver.fingerprint import SCHEME
from tfcert.driver.header import IDENTITY
from tfcert.driver.journal import FILE_NAME, JournalFolder
from tfcert.errors import JournalError, UsageError
from tfcert.report import Asked, Measured, Record
from tfcert.verdict import Guarantee, Outcome, Verdict, Work

HEADER = {key: f"{key} as it was" for key in IDENTITY} | {"hashes": SCHEME}
SLOW = """\
import signal, sys, time
import numpy as np
import tfcert.rigour.radius as asked
from tfcert.cli.main import main

def bounds(network, perturbation, clauses, **_):
    time.sleep(0.8)
    return np.full(clauses.rows()[1].shape, 0.5), None

asked.clause_bounds = bounds
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
sys.exit(main(sys.argv[1:]))
"""


def record(sample: int, margin: float = 0.5) -> Record:
    verdict = Verdict(Outcome.VERIFIED, "", "crown", "crown", "adaptive", Guarantee.NUMERIC, margin, 0.25)
    return Record("p", sample, verdict, Asked("linf", 0.1, "unit", "all"), None, 3, 3)


def write(folder: Path, *records: Record, header=HEADER, say=print) -> Path:
    with JournalFolder(out=folder).open(header, say) as journal:
        for r in records:
            journal.append(r)
    return folder / FILE_NAME


def resume(folder: Path, header=HEADER) -> list[Record]:
    with JournalFolder(resume=folder).open(header, print) as journal:
        return list(journal.known)


def test_records_come_back_as_they_were_written(tmp_path):
    measured = Record("m", 2, record(2).verdict, measured=Measured(0.25, math.nan), witness="witnesses/m-2.npz")
    write(tmp_path, record(0), measured)
    found = resume(tmp_path)
    assert [r.as_json() for r in found] == [record(0).as_json(), measured.as_json()]


def test_work_is_kept_and_a_journal_from_before_it_was_counted_still_resumes(tmp_path):
    worked = replace(record(1), verdict=replace(record(1).verdict, work=Work(pieces=31, solver_seconds=0.25)))
    path = write(tmp_path, record(0), worked)
    header, old, new = path.read_text().splitlines()
    without = json.loads(old)
    assert without["record"].pop("work") == {}
    path.write_text("\n".join([header, json.dumps(without), new, ""]))
    found = resume(tmp_path)
    assert [r.verdict.work for r in found] == [Work(), Work(31, 0, 0, 0, 0.25)]


def test_nan_is_written_as_null(tmp_path):
    line = write(tmp_path, record(0, math.nan)).read_text().splitlines()[1]
    assert json.loads(line)["record"]["margin"] is None
    assert "NaN" not in line


def test_a_truncated_last_line_is_dropped_and_the_next_record_begins_a_line_of_its_own(tmp_path):
    path = write(tmp_path, record(0), record(1))
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    with JournalFolder(resume=tmp_path).open(HEADER, print) as journal:
        assert [r.sample for r in journal.known] == [0]
        journal.append(record(1))
    lines, before = path.read_text().splitlines(), data.decode().splitlines()
    assert lines[:2] == before[:2] and json.loads(lines[2])["resumed"]["pid"] == os.getpid()
    assert [json.loads(line)["record"] for line in (lines[3], before[2])] == [record(1).as_json()] * 2


@pytest.mark.parametrize("key", IDENTITY)
def test_a_journal_of_another_run_is_refused(tmp_path, key):
    write(tmp_path, record(0))
    with pytest.raises(JournalError, match=r"changed since|was .* and is now something else"):
        resume(tmp_path, HEADER | {key: "something else"})


def test_damage_in_the_middle_is_an_error_not_a_gap(tmp_path):
    path = write(tmp_path, record(0), record(1))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "{ not json\n" + lines[2])
    with pytest.raises(JournalError, match="line 2"):
        resume(tmp_path)


def test_a_first_line_that_was_cut_short_is_nothing_to_resume_and_in_nobodys_way(tmp_path):
    """Catches a run that was killed as it began being told as damage, or blocking its folder."""
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(JournalError, match="cut short within its first line"):
        resume(tmp_path)
    write(tmp_path, record(0))
    assert [r.sample for r in resume(tmp_path)] == [0]


def test_a_question_and_sample_keeps_its_first_record(tmp_path):
    """Catches work that is done twice, after a worker was lost, changing what was told, within a run and after it."""
    other = replace(record(0), verdict=replace(record(0).verdict, outcome=Outcome.UNKNOWN))
    with JournalFolder(out=tmp_path).open(HEADER, print) as journal:
        assert journal.append(record(0)) and not journal.append(other)
        assert journal.extend([record(1), other, replace(other, sample=1), record(2)], "w") == [record(1), record(2)]
        assert journal.tally.questions["p"].done == 3 and journal.tally.workers["w"][0] == 2
    with JournalFolder(resume=tmp_path).open(HEADER, print) as journal:
        assert not journal.append(other) and len(journal.known) == 3
    assert (tmp_path / FILE_NAME).read_text().count('"record"') == 3
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write(json.dumps({"record": other.as_json()}) + "\n")
    with pytest.raises(JournalError, match="line 6: this is a second answer to p, sample 0"):
        resume(tmp_path)


def full_disk(monkeypatch, after: int):
    """Files take so many bytes more, and then a part of what is written."""
    left, real = [after], os.write

    def write_some(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        size = min(left[0], len(data))
        left[0] -= size
        return real(descriptor, data[:size])

    monkeypatch.setattr(os, "write", write_some)


def test_a_full_disk_is_said_and_loses_nothing(tmp_path, monkeypatch):
    """Catches half a line in the journal, answers that count without being there, and an error without advice."""
    with JournalFolder(out=tmp_path).open(HEADER, print) as journal:
        journal.append(record(0))
        before = (tmp_path / FILE_NAME).read_bytes()
        with monkeypatch.context() as patched:
            full_disk(patched, after=100)
            with pytest.raises(JournalError, match=r"No space left .* 1 answer in it .* --resume"):
                journal.append(record(1))
        assert (tmp_path / FILE_NAME).read_bytes() == before
        assert journal.tally.questions["p"].done == 1
        assert journal.append(record(1))
    assert [r.sample for r in resume(tmp_path)] == [0, 1]


def test_a_file_of_a_run_that_finds_no_room_is_said_as_the_journal_s_would_be(tmp_path):
    """Catches a witness that does not fit ending a run with an error that says nothing of its answers."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "witnesses/p-1.npz")
    folder = JournalFolder(out=tmp_path)
    told = pytest.raises(JournalError, match=r"witnesses/p-1.npz cannot be written: No space left .* --resume")
    with told, folder.open(HEADER, print):
        raise full
    with pytest.raises(FileNotFoundError), JournalFolder(out=tmp_path).open(HEADER, print):
        raise FileNotFoundError(errno.ENOENT, "no model", "clf.keras")


def test_a_small_disk_that_runs_full_keeps_whole_lines(tmp_path):
    """Catches what a real file system does otherwise than the one that the test above makes up."""
    disk = tmp_path / "disk"
    disk.mkdir()
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]}\n"
        "from pathlib import Path\n"
        "from test_journal import JournalError, record, write\n"
        f"disk = Path({str(disk)!r})\n"
        "try:\n    write(disk, *map(record, range(1000)))\n"
        "except JournalError as error:\n    print(error)\n"
        "sys.stdout.write((disk / 'journal.jsonl').read_text())\n"
    )
    mount = f'mount -t tmpfs -o size=64k tmpfs {disk} && exec {sys.executable} -c "$CODE"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    if shutil.which("unshare") is None or subprocess.run([*command[:4], "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system of one's own")
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CODE": code})
    said, *lines = done.stdout.splitlines()
    assert "No space left on device" in said and f"The {len(lines) - 1} answers in it are kept" in said, done.stderr
    assert [json.loads(line)["record"]["sample"] for line in lines[1:]] == list(range(len(lines) - 1)) and lines[50:]


def test_a_folder_without_a_journal_cannot_be_resumed(tmp_path):
    with pytest.raises(JournalError, match="nothing to resume"):
        resume(tmp_path)


def test_two_runs_do_not_write_to_one_journal(tmp_path):
    with JournalFolder(out=tmp_path).open(HEADER, print):
        with pytest.raises(JournalError, match="another run"):
            write(tmp_path)
        with pytest.raises(JournalError, match=rf"another run .* \(process {os.getpid()} on .*, since 20"):
            resume(tmp_path)
    assert resume(tmp_path) == []


def start_slowly(spec: Path, out: Path) -> subprocess.Popen[str]:
    """Starts a run that takes 0.8 s a sample, and waits until its journal holds two verdicts."""
    script = spec.with_name("slow.py")
    script.write_text(SLOW)
    arguments = [sys.executable, str(script), "verify", str(spec), "--out", str(out)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (out / FILE_NAME).exists() and (out / FILE_NAME).read_bytes().count(b"\n") >= 3:
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the run did not get going: {process.communicate()}")


def plain(records) -> list[dict]:
    """Records without the times they took."""
    return [{k: v for k, v in r.as_json().items() if k != "seconds"} for r in records]


def test_a_run_of_before_runs_said_what_proofs_are_about_is_not_mixed_with_one_that_bounds_rounding(
    run, folder, margins
):
    """Catches proofs of two meanings in one run of one strategy that says nothing of rounding."""
    margins(0.5)
    report = run("crown")
    assert report.header["rounding"] == "deployed"
    journal = folder / "out" / FILE_NAME
    first, rest = journal.read_text().split("\n", 1)
    header = json.loads(first)
    del header["header"]["rounding"]
    journal.write_text(f"{json.dumps(header)}\n{rest}")
    with pytest.raises(JournalError, match=r"the rounding .* was ignore and is now deployed"):
        run("crown", resume=folder / "out")


def test_a_killed_run_is_resumed_to_the_same_records(run, write_spec, folder, margins):
    process = start_slowly(write_spec("crown", blocks="batch: 1"), folder / "out")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = (folder / "out" / FILE_NAME).read_bytes()
    assert 2 <= before.count(b'"record"') < 8
    margins(0.5)
    resumed = run("crown", blocks="batch: 1", resume=folder / "out")
    fresh = run("crown", blocks="batch: 1", out=folder / "fresh")
    assert plain(resumed.records) == plain(fresh.records)
    assert len(resumed.records) == 8
    assert (folder / "out" / FILE_NAME).read_bytes().startswith(before[: before.rfind(b"\n") + 1])


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_ctrl_c_keeps_the_results_and_exits_with_2(write_spec, folder, signals):
    """Once lets the sample that is in flight come to its end; what ends a run at once waits for none."""
    process = start_slowly(write_spec("crown", blocks="batch: 1"), folder / "out")
    before = (folder / "out" / FILE_NAME).read_bytes().count(b'{"record"')
    for number in signals:
        os.kill(process.pid, number)
        time.sleep(0.1)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "interrupted" in output and "Traceback" not in errors
    assert ("stopping after what is in flight" in errors) == (signals[0] == signal.SIGINT)
    result = json.loads((folder / "out" / "result.json").read_text())
    assert result["header"]["complete"] is False
    journaled = (folder / "out" / FILE_NAME).read_bytes().count(b'{"record"')
    assert before <= len(result["records"]) == journaled < 8
    if len(signals) == 1 and signals[0] == signal.SIGINT:
        assert journaled > before


def test_a_run_with_changed_weights_is_not_resumed(run, folder, classifier, margins):
    import keras

    margins(0.5)
    run("crown")
    other = keras.models.clone_model(classifier)
    other.set_weights([w * 1.001 for w in classifier.get_weights()])
    other.save(folder / "clf.keras")
    with pytest.raises(JournalError, match="what clf computes"):
        run("crown", resume=folder / "out")


def test_a_journal_from_before_hashes_knew_how_layers_are_wired_is_refused(run, folder, margins):
    margins(0.5)
    run("crown")
    path = folder / "out" / FILE_NAME
    path.write_text(path.read_text().replace(f'"hashes": {SCHEME}, ', ""))
    with pytest.raises(JournalError, match="another version of tfcert"):
        run("crown", resume=folder / "out")


@pytest.mark.parametrize("changed", ["labels", "order"])
def test_a_run_on_other_labels_or_in_another_order_is_not_resumed(run, folder, samples, margins, changed):
    margins(0.5)
    run("crown")
    x, y = samples
    other = (x, (y + 1) % 3) if changed == "labels" else (x[::-1], y[::-1])
    np.savez(folder / "test.npz", x=other[0], y=other[1])
    with pytest.raises(JournalError, match="the samples of test"):
        run("crown", resume=folder / "out")


def test_what_is_not_in_the_text_s_hash_is_compared_too(tmp_path):
    """Preprocessing and abstraction count by themselves, whatever text they come from."""
    then = HEADER | {"preprocessing": {"p": {"scale": "1/255"}}, "abstractions": {"p": {"granularity": 0.4}}}
    write(tmp_path, header=then)
    now = then | {"preprocessing": {"p": {"scale": "1"}}, "abstractions": {}}
    with pytest.raises(JournalError, match=r"preprocessing of p .* changed since; the abstraction of p changed"):
        resume(tmp_path, now)


def test_a_resumed_run_takes_parameters_and_bindings_from_its_folder(run, folder, samples, margins, monkeypatch):
    """The paths are those of then, wherever one stands now."""
    margins(0.5)
    x, y = samples
    np.savez(folder / "few.npz", x=x[:5], y=y[:5])
    monkeypatch.chdir(folder)
    first = run("crown", params={"eps": "1/3"}, bindings={"test": "few.npz"})
    monkeypatch.chdir("/")
    resumed = run("crown", resume=folder / "out")
    assert plain(resumed.records) == plain(first.records) and len(first.records) == 5
    assert resumed.header["params"] == {"eps": "1/3"}
    again = run("crown", resume=folder / "out", params={"eps": "2/6"}, bindings={"test": folder / "few.npz"})
    assert plain(again.records) == plain(first.records)


def test_an_object_of_python_is_asked_for_again(run, folder, classifier, samples, margins):
    margins(0.5)
    bindings = {"clf": classifier, "test": samples}
    first = run("crown", bindings=bindings)
    with pytest.raises(JournalError, match="does not hold what Python gave for clf and test"):
        run("crown", resume=folder / "out")
    assert plain(run("crown", resume=folder / "out", bindings=bindings).records) == plain(first.records)


def test_a_run_with_other_parameters_is_not_resumed(run, folder, margins):
    margins(0.5)
    run("crown")
    with pytest.raises(JournalError, match="the parameter eps was 1/100 and is now 1/3"):
        run("crown", resume=folder / "out", params={"eps": "1/3"})


def test_a_share_of_the_range_is_not_resumed_as_a_number(run, folder, margins):
    margins(0.5)
    run("crown", params={"eps": "1%"})
    with pytest.raises(JournalError, match="the parameter eps was 1% and is now 1/100"):
        run("crown", resume=folder / "out", params={"eps": "1/100"})


def test_a_resumed_run_has_no_other_place_to_write(run, folder):
    with pytest.raises(UsageError, match="either resume or out"):
        run("crown", resume=folder / "out", out=folder / "other")


def test_resuming_a_finished_run_computes_nothing_again(run, folder, margins, monkeypatch):
    margins(0.5)
    first = run("crown")

    def bounds(*_, **__):
        raise AssertionError("nothing was left to do")

    monkeypatch.setattr(BOUNDS, of_clauses(bounds))
    assert plain(run("crown", resume=folder / "out").records) == plain(first.records)


def test_what_an_interrupted_run_left_is_moved_aside_and_can_still_be_resumed(tmp_path):
    data = write(tmp_path, record(0), record(1)).read_bytes()
    (tmp_path / "witnesses").mkdir()
    (tmp_path / "witnesses" / "p-0.npz").write_bytes(b"a witness")
    said: list[str] = []
    write(tmp_path, record(0), say=said.append)
    assert f"2 verdicts of an interrupted run moved to {tmp_path / 'interrupted-1'}; --resume" in said[0]
    assert (tmp_path / "interrupted-1" / FILE_NAME).read_bytes() == data
    assert (tmp_path / "interrupted-1" / "witnesses" / "p-0.npz").exists()
    assert not (tmp_path / "witnesses").exists()
    assert [r.sample for r in resume(tmp_path / "interrupted-1")] == [0, 1]
    write(tmp_path, say=said.append)
    assert "1 verdict of an interrupted run" in said[1] and "interrupted-2" in said[1]


def test_a_finished_run_or_one_without_verdicts_is_not_kept(tmp_path):
    said: list[str] = []
    write(tmp_path, say=said.append)
    with JournalFolder(out=tmp_path).open(HEADER, said.append) as journal:
        journal.append(record(0))
        journal.finish()
    (tmp_path / "witnesses").mkdir()
    (tmp_path / "witnesses" / "p-0.npz").write_bytes(b"a witness of the run before")
    write(tmp_path, say=said.append)
    assert not said and not (tmp_path / "interrupted-1").exists()
    assert not list((tmp_path / "witnesses").iterdir())
    assert resume(tmp_path) == []


def test_a_rerun_keeps_the_verdicts_of_an_interrupted_one_and_says_where(run, folder, margins, capsys):
    margins(0.5)
    run("crown")
    path = folder / "out" / FILE_NAME
    interrupted = b"".join(path.read_bytes().splitlines(keepends=True)[:4])
    path.write_bytes(interrupted)
    report = run("crown", verbose=1)
    assert "3 verdicts of an interrupted run moved to" in capsys.readouterr().err
    assert (folder / "out" / "interrupted-1" / FILE_NAME).read_bytes() == interrupted
    assert len(report.records) == 8
    run("crown")
    assert not (folder / "out" / "interrupted-2").exists()
