"""``python -m tfcert.proof OUT``: checks every certificate of a folder and says what is proven, of which model."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from .check import LEVEL, check, read_claim
from .errors import ProofError
from .graph import Graph
from .model import read_model


class _Models:
    """The models that certificates may be about, each read once."""

    def __init__(self, paths: Sequence[Path]):
        self._given = [(path, read_model(path)) for path in paths]
        self._found: dict[Path, Graph] = {}
        self.said: dict[str, str] = {}

    def of(self, folder: Path, file: object, digest: str) -> Graph:
        """The model with a digest: of those given, or the file that a certificate names in its own folder."""
        if self._given:
            fitting = [(path, graph) for path, graph in self._given if graph.digest == digest]
            if not fitting:
                raise ProofError(f"it is about the model {digest[:12]}..., which is none of those given")
            path, graph = fitting[0]
        else:
            if not isinstance(file, str) or Path(file).name != file or file in ("", ".", ".."):
                raise ProofError(f"it names the model {str(file)[:80]!r}, which is no file beside it: give --model")
            path = folder / file
            graph = self._found[path] = self._found.get(path) or read_model(path)
        if digest not in self.said:
            self.said[digest] = f"{path} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()})"
        return graph


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks what the arguments name; 0 where there are certificates and all are proven, else 1."""
    parser = argparse.ArgumentParser(prog="proof", description="Recomputes what certificates claim.")
    parser.add_argument("out", type=Path, nargs="+", help="a certificate, a folder of them, or a run's folder")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a .keras file that they are about")
    options = parser.parse_args(arguments)
    paths = [path for out in options.out for path in _certificates(out)]
    proven = 0
    try:
        models = _Models(options.model)
    except ProofError as error:
        print(f"the model cannot be read: {error}")
        return 1
    for path in paths:
        try:
            claim = read_claim(path)
            found = check(claim, models.of(path.parent, claim.head["model"].get("file"), claim.digest))
        except (ProofError, MemoryError, RecursionError) as error:
            print(f"{path.name}: refused: {error or type(error).__name__}")
            continue
        proven += found.proven
        verdict = (
            f"proven at level {LEVEL}, margin" if found.proven else "not proven: the margin is only known to be above"
        )
        print(f"{path.name}: {found.said}: {verdict} {found.margin:.6g}")
    for model in models.said.values():
        print(f"of the model {model}")
    print(f"{proven} of {len(paths)} certificates proven")
    return 0 if paths and proven == len(paths) else 1


def _certificates(out: Path) -> list[Path]:
    """The certificates in a run's folder, in ``certificates/`` there, or the one that is named."""
    if not out.is_dir():
        return [out]
    inner = out / "certificates"
    return sorted((inner if inner.is_dir() else out).glob("*.npz"))


if __name__ == "__main__":
    sys.exit(main())
