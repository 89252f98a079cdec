"""Runs that are killed at random moments and resumed: nothing is lost, nothing is there twice, the result is the same.

python -m benchmarks.campaigns.kills                       50 kills of a run in one process
python -m benchmarks.campaigns.kills --workers 2           the same of a run with two workers
python -m benchmarks.campaigns.kills --workers 2 --victims worker      of its workers, one at a time
python -m benchmarks.campaigns.kills --kills 5 --seed 7    fewer, at other moments

A run of 120 questions about a small network is started and its driver (or a worker) killed by SIGKILL: most often while
it answers, at times while it starts. Then ``--resume`` goes on, until it is killed again. Whenever a run comes to its
end, its result is compared with that of a run that nobody disturbed, times apart, and another one is begun. After every
kill the whole lines of the journal before it must be the first ones of the journal after it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.campaigns.runs import children, command, fingerprint
from benchmarks.common import store

STORE = store.Store(__file__)
SAMPLES = 40
SPEC = """\
prop 1
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y") { range: [0, 1] }
strategy plan = pgd(steps=20, restarts=2) -> ibp -> crown { batch: 1 }
property near(x, y in test) using plan { forall z in ball(x, linf, 0.02) within [0, 1] in net: argmax(clf(z)) == y }
property far(x, y in test) using plan { forall z in ball(x, linf, 0.2) within [0, 1] in net: argmax(clf(z)) == y }
measure radius(x, y in test) = largest r in [0, 0.5] tol 1e-3 such that
  forall z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) == y
  using plan
"""
LONGEST = 300.0
"""Seconds that a run may take without a kill; those of an orphaned worker are fewer."""
ORPHAN = 30.0


@dataclass
class Campaign:
    """Runs in one folder, and what was seen.

    Attributes:
        folder: of specification, model and samples.
        options: of the command line.
        draw: of the moments.
        victim: ``driver`` or ``worker``.
        seen: counts, by what is counted.
        wrong: sentences on what should not be.
    """

    folder: Path
    options: list[str]
    draw: random.Random
    victim: str
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """Begins the run, or goes on with it."""
        journal = out / "journal.jsonl"
        resumable = journal.is_file() and b"\n" in journal.read_bytes()
        started = command(self.folder / "s.prop", out, *self.options, resume=resumable)
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(started, stdout=log, stderr=log)

    def undisturbed(self, out: Path) -> str:
        """The hash of a run that nobody kills."""
        self.start(out).wait(LONGEST)
        return fingerprint(out)

    def kill(self, out: Path) -> bool:
        """Starts or resumes the run and kills it, or one of its workers; False where it came to its end before."""
        journal, began = out / "journal.jsonl", time.monotonic()
        before = journal.read_bytes() if journal.is_file() else b""
        whole = before[: before.rfind(b"\n") + 1]
        early = self.draw.random() < 0.15
        process = self.start(out)
        until = self.draw.uniform(0.2, 8.0) if early else LONGEST
        while process.poll() is None and time.monotonic() - began < until:
            if not early and journal.is_file() and journal.stat().st_size > len(before) + 200:
                time.sleep(self.draw.expovariate(2.0))
                break
            time.sleep(0.01)
        if process.poll() is not None:
            return False
        if self.victim == "worker":
            self._kill_worker(process)
            return False
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.seen["kills while it starts" if early else "kills while it answers"] += 1
        self._look(journal, whole)
        self._orphans(workers)
        return True

    def _kill_worker(self, process: subprocess.Popen[bytes]) -> None:
        """Kills a worker every now and then until the run ends, which it must by itself."""
        while process.poll() is None:
            workers = children(process.pid)
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.draw.choice(workers), signal.SIGKILL)
                    self.seen["kills of a worker"] += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.draw.uniform(10, 30))

    def _look(self, journal: Path, whole: bytes) -> None:
        """Compares the journal after a kill with that before it."""
        after = journal.read_bytes() if journal.is_file() else b""
        if not after.startswith(whole):
            self.wrong.append("the journal does not begin as it was")
        if after and not after.endswith(b"\n"):
            self.seen["last lines cut short"] += 1
        keys = [
            (record["property"], record["sample"])
            for line in after[: after.rfind(b"\n") + 1].splitlines()
            if (record := json.loads(line).get("record"))
        ]
        if len(keys) != len(set(keys)):
            self.wrong.append("a question and sample has two records")

    def _orphans(self, workers: list[int]) -> None:
        """Workers must end by themselves when their driver is gone."""
        deadline = time.monotonic() + ORPHAN
        while any(alive(pid) for pid in workers):
            if time.monotonic() > deadline:
                self.wrong.append("workers outlive their driver")
                return
            time.sleep(0.1)

    def run(self, kills: int) -> None:
        """Kills runs until there are so many kills, then lets the last one come to its end."""
        expected = self.undisturbed(self.folder / "undisturbed")
        number = 0
        while sum(n for what, n in self.seen.items() if what.startswith("kills")) < kills:
            out, number = self.folder / f"run-{number}", number + 1
            while sum(n for what, n in self.seen.items() if what.startswith("kills")) < kills and self.kill(out):
                pass
            self.start(out).wait(LONGEST)
            same = fingerprint(out) == expected
            self.seen["results that are the same" if same else "results that differ"] += 1
            if not same:
                self.wrong.append(f"the result of {out.name} differs")
            print(dict(self.seen), self.wrong, flush=True)


def alive(pid: int) -> bool:
    """Tells whether a process runs; one that has ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def prepare(folder: Path) -> None:
    """A small network with random weights, samples with the classes that it gives them, and the specification."""
    script = f"""
import sys
import keras, numpy as np
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(4)])
x = np.random.default_rng(0).random(({SAMPLES}, 8)).astype("float32")
model.save(sys.argv[1] + "/clf.keras")
np.savez(sys.argv[1] + "/test.npz", x=x, y=np.asarray(model(x)).argmax(axis=1))
"""
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True)
    (folder / "s.prop").write_text(SPEC)


def main() -> None:
    """Kills runs and stores what was seen; exit code 1 where something was lost, twice, or different."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=0, help="0: in process")
    parser.add_argument("--victims", choices=("driver", "worker"), default="driver")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        how = ["--workers", str(options.workers)] if options.workers else []
        campaign = Campaign(folder, how, random.Random(options.seed), options.victims)
        try:
            campaign.run(options.kills)
        except Exception:
            sys.stderr.write((folder / "log").read_text()[-4000:])
            raise
    kind = f"{options.workers} workers, of which one" if options.victims == "worker" else f"{options.workers} workers"
    results = STORE.read("kills", {})
    results[kind if options.workers else "in process"] = {"seed": options.seed, "seen": campaign.seen,
                                                          "wrong": campaign.wrong}  # fmt: skip
    STORE.write("kills", results)
    rows = [
        {"run": run, "seen": ", ".join(f"{n} {what}" for what, n in found["seen"].items()),
         "lost, twice or different": "; ".join(found["wrong"]) or "nothing"}
        for run, found in results.items()
    ]  # fmt: skip
    STORE.write_table("kills", store.markdown(rows))
    sys.exit(bool(campaign.wrong))


if __name__ == "__main__":
    main()
