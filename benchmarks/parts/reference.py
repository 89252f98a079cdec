"""Reference networks, their images, and where results go."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfcert

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parents[1] / "shared"
README = HERE / "README.md"
_METHODS = {"crown": "CROWN", "crown-ibp": "CROWN-IBP", "ibp": "IBP"}
_NORMS = {"linf": "inf", "l2": "2", "l1": "1"}


@dataclass(frozen=True)
class Question:
    """One batch to bound: ``f_y - f_j`` over balls of one radius, for every other class j (``rows[i, j]``)."""

    x: np.ndarray
    eps: float
    labels: np.ndarray
    classes: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        eye = np.eye(self.classes.shape[1] + 1, dtype=np.float32)
        return eye[self.labels][:, None, :] - eye[self.classes]


def load(name: str) -> keras.Model:
    """A reference network by its name."""
    return tfcert.load_model(_existing(SHARED / "reference" / "models" / f"{name}_s0.keras"))


def question(name: str, method: str, norm: str) -> Question:
    """The images, radius and classes of the record that auto_LiRPA left for a network."""
    records = json.loads(_existing(SHARED / "reference" / "margins.json").read_text())
    wanted = (name, _METHODS[method], _NORMS[norm])
    (record,) = (r for r in records if (r["model"], r["method"], r["norm"]) == wanted)
    pixels = np.load(SHARED / "data" / "mnist.npz")["x_test"][record["images"]]
    x = (pixels.astype(np.float32) / 255 - 0.5)[..., None]
    return Question(x, record["eps"], np.array(record["labels"]), np.array(record["classes"]))


def write(name: str, result: dict[str, Any]) -> None:
    """Stores a benchmark's result as ``results/<name>.json``."""
    text = json.dumps(result, indent=1) + "\n"
    (HERE / "results" / f"{name}.json").write_text(text)


def read(name: str) -> dict[str, Any]:
    """The stored result of a benchmark."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def write_table(name: str, table: str) -> None:
    """Replaces what stands between the README's marks for a benchmark."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = README.read_text().partition(begin)
    _, _, after = rest.partition(end)
    README.write_text(f"{before}{begin}\n{table}\n{end}{after}")


def markdown(rows: list[dict[str, str]]) -> str:
    """A Markdown table; the first row's keys are its head."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row[column] for column in head) + " |" for row in rows])


def machine_line(machine: dict[str, Any]) -> str:
    """The machine and versions of a result, in a sentence."""
    libraries = ("tensorflow", "keras", "numpy", "torch", "auto_LiRPA", "neuralsat")
    versions = ", ".join(f"{name} {machine[name]}" for name in libraries if name in machine)
    load = machine.get("load_average", "not recorded")
    cores = f"{machine['cores']} cores, {machine['threads']} threads for each side, load average {load}"
    return f"{machine['cpu']}, {cores}; {versions}."


def _existing(path: Path) -> Path:
    if not path.exists():
        raise SystemExit(f"this benchmark reads the reference networks beside the repository; there is no {path.name}")
    return path
