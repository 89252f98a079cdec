"""Runs of ``tfcert verify`` as processes: how one is begun, whom it started, and what it answered."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def command(spec: Path, out: Path, *more: str, resume: bool = False) -> list[str]:
    """``tfcert verify`` of a specification, quietly."""
    place = ["--resume", str(out)] if resume else ["--out", str(out)]
    return [sys.executable, "-m", "tfcert", "verify", str(spec), "-q", *place, *more]


def answers(out: Path) -> list[dict[str, Any]]:
    """The records of a run that is complete, without what two runs of anything differ in."""
    result = json.loads((out / "result.json").read_text())
    if not result["header"]["complete"]:
        raise SystemExit(f"{out} is not complete")
    for record in result["records"]:
        record.pop("seconds")
        record["work"] = {name: n for name, n in record["work"].items() if "seconds" not in name}
    found: list[dict[str, Any]] = result["records"]
    return found


def fingerprint(out: Path) -> str:
    """A hash of a run's records and of its witnesses' numbers."""
    digest = hashlib.sha256(json.dumps(answers(out)).encode())
    for path in sorted((out / "witnesses").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            for name in sorted(arrays):
                digest.update(f"{path.name} {name} ".encode() + arrays[name].tobytes())
    return digest.hexdigest()


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
