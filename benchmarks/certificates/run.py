"""Which proofs the checker repeats, what their files weigh, and what checking takes beside proving.

python -m benchmarks.certificates.run                    every network that has no result yet; minutes on two cores
python -m benchmarks.certificates.run NAME ...           these networks alone
python -m benchmarks.certificates.run --images 2         fewer images, to see that everything runs
python -m benchmarks.certificates.run --minutes 10       begins no network after ten minutes; the next run goes on
python -m benchmarks.certificates.run --again            measures anew what has a result
python -m benchmarks.certificates.run --write            writes the README's table from the stored results

The networks, norms and radii are those of ``benchmarks.rigour``. Seconds are of the processor: those of the prover are
a second call's, over all images at once; those of the checker are of reading a file and checking it, one by one, on one
thread of NumPy where it is told so (``OMP_NUM_THREADS=1``).
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common import machine, store
from benchmarks.rigour.run import Asked, asked, loaded
from tfcert.options import BoundOptions
from tfcert.proof.check import check, read_claim
from tfcert.proof.model import read_model

STORE = store.Store(__file__)
IMAGES = 10


@dataclass(frozen=True)
class Case:
    """A network with a norm and radii, and the method that proves."""

    ask: Asked
    method: str = "crown"

    @property
    def key(self) -> str:
        return f"{self.ask.key} {self.method}"


def cases() -> list[Case]:
    """Every case, the demo's first."""
    every = asked()
    first = [ask for ask in every if ask.name in ("demo", "fnn1") and ask.norm == "linf"]
    return [*(Case(ask) for ask in every), *(Case(ask, "alpha-crown") for ask in first)]


def measured(case: Case, count: int) -> dict[str, Any]:
    """The record of a case: of each radius the verdicts, and of each proof its file and the checker's answer."""
    model, x, y = loaded(case.ask)
    right = np.flatnonzero(np.asarray(model(x[: 3 * count])).argmax(axis=1) == y[: 3 * count])[:count]
    x, y = x[right], y[right]
    options = BoundOptions(rounding="deployed")
    found: dict[str, Any] = {"images": len(x), "verified": 0, "proofs": [], "refused": [], "prover": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        graph = read_model(path)
        for eps in case.ask.radii:

            def certified(eps: float = eps, certificate: bool = False) -> tfcert.Certification:
                more: dict[str, Any] = {"norm": case.ask.norm, "clip": case.ask.clip, "method": case.method}
                return tfcert.certify(model, x, y, eps=eps, options=options, certificate=certificate, **more)

            certified()
            began = time.process_time()
            certified()
            proved = time.process_time()
            answer = certified(certificate=True)
            written = time.process_time()
            found["prover"].append((proved - began) / len(x))
            found["verified"] += int(answer.verified.sum())
            for margin, certificate in zip(answer.margin, answer.certificates, strict=True):
                if isinstance(certificate, str):
                    found["refused"].append(certificate)
                elif certificate is not None:
                    file = certificate.save(Path(folder) / "one.npz")
                    start = time.process_time()
                    checked = check(read_claim(file), graph)
                    seconds = time.process_time() - start
                    assert checked.proven
                    found["proofs"].append(
                        {
                            "bytes": file.stat().st_size,
                            "seconds": round(seconds, 4),
                            "margin": float(f"{margin:.6g}"),
                            "checked": float(f"{checked.margin:.6g}"),
                        }
                    )
            found["writer"] = max(0.0, written - proved - (proved - began)) / max(1, int(answer.verified.sum()))
    return found | {"eps": list(case.ask.radii), "norm": case.ask.norm, "name": case.ask.name, "method": case.method}


def table() -> str:
    """What is stored, as Markdown."""
    rows = []
    for stored in STORE.read("certificates").values():
        record = stored["record"]
        proofs = record["proofs"]
        checker = statistics.median(proof["seconds"] for proof in proofs) if proofs else float("nan")
        prover = statistics.mean(record["prover"])
        rows.append(
            {
                "network": record["name"],
                "norm": record["norm"],
                "method": record["method"],
                "radii": ", ".join(f"{eps:.3g}" for eps in record["eps"]),
                "proofs": str(record["verified"]),
                "accepted": str(len(proofs)),
                "KB, median": f"{statistics.median(proof['bytes'] for proof in proofs) / 1e3:.1f}" if proofs else "",
                "prover, s": f"{prover:.3f}",
                "writer, s": f"{record['writer']:.3f}",
                "checker, s": f"{checker:.3f}",
                "checker / prover": f"{checker / prover:.1f}",
            }
        )
    return store.markdown(rows)


def totals() -> str:
    """All cases together, in a sentence, and the machine."""
    every = list(STORE.read("certificates").values())
    verified = sum(stored["record"]["verified"] for stored in every)
    accepted = sum(len(stored["record"]["proofs"]) for stored in every)
    share = 100 * accepted / verified if verified else 0.0
    return f"{accepted} of {verified} proofs are repeated ({share:.1f}%).\n\n{store.machine_line(every[-1]['machine'])}"


def main() -> None:
    """Measures, and stores after each case."""
    parser = argparse.ArgumentParser(description="Which proofs the checker repeats.")
    parser.add_argument("networks", nargs="*", help="these (default: every one)")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write", action="store_true", help="only write the README's table")
    options = parser.parse_args()
    if unknown := set(options.networks) - {case.ask.name for case in cases()}:
        parser.error(f"no network is called {', '.join(sorted(unknown))}")
    machine.limit_threads()
    began = time.monotonic()
    for case in [] if options.write else cases():
        stored = STORE.read("certificates", {})
        named = not options.networks or case.ask.name in options.networks
        if not named or (case.key in stored and not options.again):
            continue
        if time.monotonic() - began > 60 * options.minutes:
            break
        record = measured(case, options.images)
        keras.backend.clear_session()
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        STORE.write(
            "certificates", stored | {case.key: {"date": date, "machine": machine.describe(), "record": record}}
        )
        print(case.key, f"{len(record['proofs'])} of {record['verified']}", set(record["refused"]) or "", flush=True)
    STORE.write_table("certificates", f"{table()}\n\n{totals()}")


if __name__ == "__main__":
    main()
