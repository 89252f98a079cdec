"""A journal of many records: what it costs to append, resume, judge and report them.

python -m benchmarks.campaigns.journal                           10,000 and 1,000,000 records
python -m benchmarks.campaigns.journal --records 10000           that many
python -m benchmarks.campaigns.journal --steps status report     these steps alone; the journal is made where it lacks
python -m benchmarks.campaigns.journal --write                   the table of the README, from what is stored

Records are those of a property and a measure about samples of ten classes: decided, refuted (with the path of a
witness) and open. Each step is a process of its own, and its memory is the most that it had; "judge" alone
loads TensorFlow, as a run has (some 500 MB).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from benchmarks.common import store
from tfcert.driver.header import run_header, spec_header
from tfcert.driver.journal import FILE_NAME, JournalFolder, read_journal
from tfcert.driver.judge import exit_code, gather_results, judge, reported
from tfcert.language import Spec, load
from tfcert.report import Asked, Measured, Record, Report
from tfcert.verdict import Guarantee, ModelRun, Outcome, Reason, Replayed, Verdict, Work

STORE = store.Store(__file__)
SIZES = (10_000, 1_000_000)
MOST_SINGLE = 10_000
"""Records that are appended one by one: each waits for the disk."""
SPEC = """\
prop 1
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y") { range: [0, 1] }
strategy plan = pgd -> crown -> split
property robust(x, y in test) using plan {
  forall z in ball(x, linf, 0.1) within [0, 1] in unit: argmax(clf(z)) == y
}
measure radius(x, y in test) = largest r in [0, 0.5] tol 1e-3 such that
  forall z in ball(x, l2, r) within [0, 1] in unit: argmax(clf(z)) == y
  using plan
assert per class y: verified_accuracy(robust) >= 0.5
assert attack_accuracy(robust) >= 0.6 and median(radius) >= 0.1
"""


def records(count: int) -> Iterator[Record]:
    """Half of them of the property, half of the measure."""
    runs = Replayed((ModelRun("eager", 1, True), ModelRun("eager", 8, True), ModelRun("xla", 1, True)))
    for i in range(count):
        sample, label, kind = i // 2, float(i // 2 % 10), i // 2 % 8
        common = {"label": label, "prediction": int(label), "correct": True}
        margin, seconds = (kind - 2.5) / 7 + i * 1e-9, 0.01 * kind + i * 1e-8
        if i % 2:
            verdict = Verdict(Outcome.VERIFIED, "", "crown", "crown", "adaptive", Guarantee.FLOAT32_ANY_ORDER,
                              margin=margin, seconds=seconds)  # fmt: skip
            asked = Asked("l2", space="unit", targets="all", width=1.0)
            yield Record("radius", sample, verdict, asked, Measured(0.1 + 1e-8 * i, 0.4 + 1e-8 * i, 24), **common)
            continue
        asked = Asked("linf", 0.1, "unit", "all", width=1.0)
        if kind == 0:
            verdict = Verdict(Outcome.FALSIFIED, "", "pgd", "pgd", "", Guarantee.REPLAYED, margin=margin,
                              seconds=seconds, work=Work(gradients=120), replayed=runs)  # fmt: skip
            yield Record("robust", sample, verdict, asked, witness=f"witnesses/robust-{sample}.npz", **common)
            continue
        reason = Reason.LOOSE.because(known=f"at least {margin:.4g}") if kind == 1 else ""
        outcome = Outcome.UNKNOWN if kind == 1 else Outcome.VERIFIED
        guarantee = Guarantee.ESTIMATE if kind == 1 else Guarantee.FLOAT32_ANY_ORDER
        verdict = Verdict(outcome, reason, "split", "alpha-crown", "adaptive", guarantee, margin=margin,
                          seconds=seconds, work=Work(pieces=7 * kind, gradients=120))  # fmt: skip
        yield Record("robust", sample, verdict, asked, **common)


def specification(folder: Path) -> Spec:
    """The specification, checked."""
    path = folder / "s.prop"
    path.write_text(SPEC)
    return load(SPEC, filename=str(path))


def append(folder: Path, count: int) -> None:
    """Each record by itself, as a run of one process does: at most ``MOST_SINGLE``."""
    _append(folder / "single", folder, min(count, MOST_SINGLE), 1)


def extend(folder: Path, count: int) -> None:
    """A hundred records at a time, as shards bring them."""
    _append(folder / "run", folder, count, 100)


def _append(out: Path, folder: Path, count: int, size: int) -> None:
    header = run_header() | spec_header(specification(folder), {}, {}) | {"rounding": "deployed"}
    header |= {"asked": {"robust": count // 2, "radius": count // 2}, "properties": {"robust": "", "radius": ""}}
    found = records(count)
    with JournalFolder(out=out).open(header, print) as journal:
        while some := list(islice(found, size)):
            journal.extend(some)


def resume(folder: Path, count: int) -> None:
    """What a run reads before it goes on."""
    again = JournalFolder(resume=folder / "run")
    assert again.then is not None
    with again.open(again.then, print) as journal:
        assert len(journal.known) == count


def judged(folder: Path, count: int) -> None:
    """Everything that a run does after its last sample."""
    from tfcert.driver.verdicts import advice, reconciled

    spec = specification(folder)
    header, found = read_journal(folder / "run" / FILE_NAME)
    kept, notes = reconciled(found)
    results = gather_results(spec, kept, lambda model, data: (_ for _ in ()).throw(AssertionError))
    verdicts, code = judge(spec, results), exit_code(spec, kept, results)
    notes += [*reported(spec, results), *advice(kept)]
    header |= {"complete": True, "exit_code": int(code), "notes": notes}
    report = Report(header, kept, code, ("robust",), ("radius",), verdicts, tuple(notes), folder / "run")
    report.save_json(folder / "run" / "result.json")


def told(*arguments: str) -> Callable[[Path, int], None]:
    """A step that is a command."""

    def step(folder: Path, count: int) -> None:
        from tfcert.cli.main import main

        main([word.replace("DIR", str(folder)) for word in arguments])

    return step


STEPS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "append": (f"append {MOST_SINGLE:,}, one at a time", append),
    "extend": ("append, a hundred at a time", extend),
    "status": ("`tfcert status`", told("status", "DIR/run", "--json", "DIR/status.json")),
    "going": ("`tfcert report` of a run that goes on", told("report", "DIR/run", "--markdown", "DIR/going.md")),
    "resume": ("resume", resume),
    "judge": ("judge and write the result", judged),
    "report": ("`tfcert report`", told("report", "DIR/run")),
    "csv": ("`tfcert report --csv`", told("report", "DIR/run", "--csv", "DIR/report.csv")),
    "html": ("`tfcert report --html`", told("report", "DIR/run", "--html", "DIR/report.html")),
    "junit": ("`tfcert report --junit --sarif`",
              told("report", "DIR/run", "--junit", "DIR/report.xml", "--sarif", "DIR/report.sarif")),
}  # fmt: skip
NEEDS = {"extend", "judge"}
"""Steps that others need."""


def measured(name: str, folder: Path, count: int) -> dict[str, float]:
    """One step in a process of its own: seconds, processor seconds, and the most memory in MB."""
    command = [sys.executable, "-m", "benchmarks.campaigns.journal", "--records", str(count), "--one", name]
    command.append(str(folder))
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return found


def one(name: str, folder: Path, count: int) -> None:
    """Runs a step and prints what it took."""
    began = time.monotonic()
    STEPS[name][1](folder, count)
    seconds = time.monotonic() - began
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    took = {"seconds": seconds, "processor": time.process_time(), "MB": int(peak.split()[1]) / 1024}
    print(json.dumps({key: round(value, 3) for key, value in took.items()}))


def table(results: dict) -> str:
    """A line a step; seconds and memory of each size."""
    rows = []
    for name, (text, _) in STEPS.items():
        row = {"step": text}
        for size, steps in results["sizes"].items():
            found = steps.get(name)
            row |= {f"{int(size):,}: processor s": f"{found['processor']:.1f}" if found else "-",
                    f"{int(size):,}: MB": f"{found['MB']:.0f}" if found else "-"}  # fmt: skip
        rows.append(row)
    return store.markdown(rows)


def main() -> None:
    """Measures the steps one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--write", action="store_true", help="write the table of the README and end")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]), options.records[0])
        return
    results = STORE.read("journal", {"sizes": {}})
    if "machine" not in results:  # asked elsewhere: it loads TensorFlow
        ask = "import json; from benchmarks.common import machine; print(json.dumps(machine.describe()))"
        said = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True, check=True).stdout
        results = {"machine": json.loads(said.splitlines()[-1])} | results
    for count in options.records if not options.write else ():
        found = results["sizes"].setdefault(str(count), {})
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for step in STEPS:
                if step in {*options.steps} | NEEDS:
                    found[step] = measured(step, folder, count)
                    print(f"{count:,} {step}: {found[step]}", flush=True)
                    STORE.write("journal", results)
    STORE.write_table("journal", table(results))


if __name__ == "__main__":
    main()
