"""Solver processes that hang, crash, overrun or answer with nonsense: an error in time, and a fresh process next."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from complete.stubs import started, stub
from tfcert.catalog import SOLVERS
from tfcert.complete.encoding.program import Program, ProgramBuilder
from tfcert.complete.solver.process import COMMAND, GRACE, SolverError, SolverProcess, SolverSettings
from tfcert.complete.solver.worker import PARENT_CHECK, read_message, write_message

TIME = 0.5


def knapsack(count: int = 3) -> Program:
    builder = ProgramBuilder()
    take = builder.binaries(count)
    builder.rows([(take, np.arange(1.0, count + 1)[None])], np.array([count]))
    return builder.program((take, -np.ones(count)))


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


FIRST_FAILS = """
from pathlib import Path
mark = Path(__file__).with_suffix(".asked")
header, body = ask()
if not mark.exists():
    mark.touch()
    {failure}
while True:
    send(*honest(header, body))
    header, body = ask()
"""
FAILURES = {
    "hangs": "time.sleep(600)",
    "crashes": "os.abort()",
    "exits with an error": "sys.exit(3)",
    "exits as if all were well": "sys.exit(0)",
    "prints garbage": "replies.write(b'Welcome to the solver! ' * 9); replies.flush(); time.sleep(600)",
    "prints garbage of a plausible length": "replies.write(bytes([5] + [0] * 7) * 2 + b'x' * 10); replies.flush()",
    "breaks off": "replies.write(bytes([99] + [0] * 15) + b'{'); replies.flush(); os._exit(0)",
    "closes its output and hangs": "replies.close(); time.sleep(600)",
    "answers without a message": "write_message(replies, {}, b'')",
    "answers with a list": "write_message(replies, [1], b'')",
    "answers with no arrays": "write_message(replies, {'answers': [], 'seconds': 0}, b'zip')",
    "says that it failed": "write_message(replies, {'error': 'no licence'}, b'')",
}
SPOILED = {
    "a point of the wrong length": "arrays['v0'] = arrays['v0'][1:]",
    "a matrix for a point": "arrays['v0'] = arrays['v0'][None]",
    "a point that is not a number": "arrays['v0'][0] = np.nan",
    "text for a point": "arrays['v0'] = np.array(['1', '0', '1'])",
    "an infinite bound": "reply['answers'][0]['bound'] = float('inf')",
    "a bound that is not a number": "reply['answers'][0]['bound'] = float('nan')",
    "a bound beyond all floats": "reply['answers'][0]['bound'] = 10**400",
    "text for a bound": "reply['answers'][0]['bound'] = 'high'",
    "no bound": "del reply['answers'][0]['bound']",
    "an unknown status": "reply['answers'][0]['status'] = 'splendid'",
    "too few answers": "reply['answers'] = []",
    "too many answers": "reply['answers'] *= 2",
    "no tangents": "del arrays['tangents']",
    "tangents of nothing": "arrays['tangents'] = np.array([[0.0, 1.0, 0.5]])",
    "prices in a matrix": "arrays['prices0'] = np.zeros((1, 1))",
}
FAILURES |= {
    f"answers with {name}": f"reply, arrays = honest(header, body); {code}; send(reply, arrays); header, body = ask()"
    for name, code in SPOILED.items()
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failure_is_an_error_in_time_and_the_next_question_is_answered(failure, tmp_path):
    with stub(tmp_path, FIRST_FAILS.format(failure=failure)) as process:
        started(process, tmp_path)
        with pytest.raises(SolverError):
            process.solve(knapsack(), TIME)
        answer = process.solve(knapsack(), 20)
        assert answer.status == "optimal" and answer.objective == -2.0


def test_a_process_that_never_reads_is_stopped_however_much_it_is_sent(tmp_path, monkeypatch):
    monkeypatch.setattr("tfcert.complete.solver.process.START", 0.0)
    monkeypatch.setattr("tfcert.complete.solver.process.GRACE", 0.2)
    with stub(tmp_path, "time.sleep(600)") as process, pytest.raises(SolverError, match="did not answer within"):
        process.solve(knapsack(200_000), TIME)


def test_a_late_answer_is_not_taken_for_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("tfcert.complete.solver.process.GRACE", 0.1)
    late = "time.sleep(1.0); reply, arrays = honest(header, body); send(reply, arrays); header, body = ask()"
    with stub(tmp_path, FIRST_FAILS.format(failure=late)) as process:
        started(process, tmp_path)
        with pytest.raises(SolverError, match="did not answer within"):
            process.solve(knapsack(2), 0.2)
        monkeypatch.undo()
        assert len(process.solve(knapsack(5), 20).v) == 5


def test_a_process_that_cannot_be_started_to_answer_is_an_error():
    with SolverProcess(command=[sys.executable, "-c", "import sys; sys.exit(7)"]) as process:
        for _ in range(2):
            with pytest.raises(SolverError, match="ended with code 7"):
                process.solve(knapsack(), TIME)


def test_memory_is_limited(tmp_path):
    code = "import resource\nheader, body = ask()\nlimit = resource.getrlimit(resource.RLIMIT_AS)[0] // 2**20\n"
    code += "write_message(replies, {'error': f'the limit is {limit} MiB of {sys.argv[1]}'}, b'')"
    with stub(tmp_path, code, SolverSettings(memory_mb=300)) as process, pytest.raises(SolverError, match="of 300"):
        process.solve(knapsack(), 20)
    # The worker itself: a program whose copies do not fit.
    big = knapsack(3_000_000)
    with SolverProcess(SolverSettings(memory_mb=700)) as process:
        with pytest.raises(SolverError):
            process.solve(big, 60)
        assert process.solve(knapsack(), 20).status == "optimal"


def test_a_process_is_kept_between_questions_and_ended_at_the_close():
    with SolverProcess() as process:
        process.solve(knapsack(), 20)
        pid = process._process.pid
        process.solve(knapsack(4), 20)
        assert process._process.pid == pid and alive(pid)
    assert not alive(pid)


def test_an_interrupt_in_the_middle_of_an_answer_ends_the_process(tmp_path):
    with stub(tmp_path, "ask()\ntime.sleep(600)") as process:
        main = threading.main_thread().ident
        threading.Timer(1.0, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            process.solve(knapsack(), 60)
        assert process._process is None


def test_the_worker_loads_no_tensorflow():
    code = "import sys, tfcert.complete.solver.worker, mip; print(sorted(m for m in sys.modules if m in "
    code += "('tensorflow', 'keras', 'tf_keras', 'tensorflow_probability')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_solvers_that_print_do_not_spoil_the_answers(solver):
    """CBC prints when it solves linear relaxations, whatever its verbosity."""
    for _ in range(3):
        assert solver.solve(knapsack(), 20, relax=True).status == "optimal"
    assert solver.solve(knapsack(), 20).objective == -2.0


def request(process: subprocess.Popen) -> None:
    program = knapsack()
    settings = {"solver": "cbc", "gap": 0, "gap_abs": 0, "threads": 1, "seed": 0}
    header = {"relax": False, "seconds": 9, "settings": settings, "backend": SOLVERS["cbc"].where}
    write_message(process.stdin, header, program.to_bytes())
    reply, _ = read_message(process.stdout)
    assert reply["answers"][0]["status"] == "optimal"


def test_the_worker_ends_when_its_input_does():
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    request(process)
    process.stdin.close()
    assert process.wait(timeout=10) == 0


def test_the_worker_ends_with_its_parent(tmp_path):
    """Its input stays open in another process: it must see that its parent is gone."""
    parent = f"""
import os, subprocess, sys, time
read, write = os.pipe()
worker = subprocess.Popen({COMMAND!r}, stdin=read, stdout=subprocess.DEVNULL, start_new_session=True)
keeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[write])
print(worker.pid, keeper.pid, flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    worker, keeper = map(int, process.stdout.readline().split())
    time.sleep(2 * PARENT_CHECK)
    assert alive(worker)
    process.kill()
    process.wait()
    try:
        assert gone(worker, 20 * PARENT_CHECK)
    finally:
        os.kill(keeper, signal.SIGKILL)


def test_time_is_given_in_full_and_no_more(tmp_path):
    """What the worker is told, and when it is stopped."""
    code = "header, body = ask()\nwrite_message(replies, {'error': f'told {header[\"seconds\"]}'}, b'')"
    for seconds, told in ((1.5, "told 1.5"), (-3.0, "told 0.0"), (float("inf"), "told 1000000.0")):
        with stub(tmp_path, code) as process, pytest.raises(SolverError, match=told):
            process.solve(knapsack(), seconds)
    assert GRACE <= 5


@pytest.mark.parametrize(
    "options",
    [{"solver": "gurobi"}, {"confirm": "cplex"}, {"gap": 1.0}, {"gap": -1e-9}, {"gap_abs": -1.0}, {"threads": 0},
     {"memory_mb": 100}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError):
        SolverSettings(**options)


def test_a_process_that_is_still_loading_answers_what_it_was_asked(solver):
    """The greeting that shows that it has loaded is no answer, and a process that was stopped is replaced."""
    with SolverProcess(solver.settings) as process:
        process.ready(0.0)
        assert len(process.solve(knapsack(5), 30).v) == 5
        stopped = process._process
        process._replace()
        assert process._process is not stopped and alive(process._process.pid) and not alive(stopped.pid)
        process.ready()
        assert len(process.solve(knapsack(4), 10).v) == 4
