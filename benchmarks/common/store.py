"""Stored results of an experiment, and the tables that its README shows of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.common import data


class Store:
    """The folder ``results/`` and the ``README.md`` beside a script, or in the folder that ``TFCERT_RESULTS`` names.

    That variable gives a reproduction results of its own: it begins from nothing, and leaves the stored ones alone.

    Args:
        script: ``__file__`` of a module in the experiment's folder.
    """

    def __init__(self, script: str):
        self.folder = Path(script).resolve().parent

    @property
    def home(self) -> Path:
        """Where the experiment's results and tables are."""
        return data.results() / self.folder.name if os.environ.get(data.RESULTS) else self.folder

    def path(self, name: str) -> Path:
        """The file ``results/NAME``."""
        return self.home / "results" / name

    def read(self, name: str, empty: Any = None) -> Any:
        """The stored result ``results/NAME.json``; ``empty`` where there is none yet.

        Raises:
            SystemExit: there is none, and no ``empty`` is given.
        """
        path = self.path(f"{name}.json")
        if path.exists():
            return json.loads(path.read_text())
        if empty is None:
            raise SystemExit(f"there are no results yet: {path.name} is not in {path.parent}")
        return empty

    def write(self, name: str, result: Any) -> None:
        """Stores ``results/NAME.json``."""
        self.replace(f"{name}.json", json.dumps(result, indent=1) + "\n")

    def replace(self, name: str, text: str) -> None:
        """Writes ``results/NAME``, and never half of it."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)

    def write_table(self, name: str, table: str) -> None:
        """Replaces what stands between the README's marks for ``name``; results elsewhere get a README of their own.

        Raises:
            ValueError: the README has no such marks.
        """
        readme, begin, end = self.home / "README.md", f"<!-- {name} -->", f"<!-- /{name} -->"
        text = readme.read_text() if readme.exists() else ""
        if begin not in text and self.home != self.folder:
            text += f"## {name}\n\n{begin}\n{end}\n\n"
        if begin not in text or end not in text:
            raise ValueError(f"{self.folder.name}/README.md has no marks {begin} and {end} for this table")
        before, _, rest = text.partition(begin)
        readme.write_text(f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}")


def markdown(rows: list[dict[str, str]]) -> str:
    """A Markdown table; the first row's keys are its head."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row[column] for column in head) + " |" for row in rows])


def machine_line(machine: dict[str, Any]) -> str:
    """The machine and versions of a result, in a sentence."""
    libraries = ("tensorflow", "keras", "numpy", "torch", "auto_LiRPA", "neuralsat")
    versions = ", ".join(f"{name} {machine[name]}" for name in libraries if name in machine)
    if "onednn" in machine:
        versions += f", oneDNN {'on' if machine['onednn'] else 'off'} in TensorFlow"
    load = machine.get("load_average", "not recorded")
    cores = f"{machine['cores']} cores, {machine['threads']} threads for each side, load average {load}"
    return f"{machine['cpu']}, {cores}; {versions}."
