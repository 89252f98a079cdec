"""``python -m tfcert.proof OUT``: checks every certificate of a folder and says what is proven, of which model."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from .check import LEVEL, check, printable, read_claim
from .errors import ProofError
from .exact import opinion
from .graph import Graph
from .model import read_model


class _Models:
    """The models that certificates may be about, each read once."""

    def __init__(self, given: Sequence[Path]):
        self._given, self.said = given, dict[str, str]()
        self._found: dict[Path, Graph] = {}

    def of(self, folder: Path, file: object, digest: str) -> Graph:
        """The model with a digest: of those given, or the file that a certificate names in its own folder."""
        if not self._given and (not isinstance(file, str) or Path(file).name != file or file in ("", ".", "..")):
            raise ProofError(f"it names the model {str(file)[:80]!r}, which is no file beside it: give --model")
        for path in self._given or [folder / str(file)]:
            graph = self._found[path] = self._found.get(path) or read_model(path)
            if graph.digest == digest:
                if digest not in self.said:
                    self.said[digest] = f"{path} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()})"
                return graph
        raise ProofError(f"it is about the model {digest[:12]}..., which is none of those at hand")


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks what the arguments name; 0 where there are certificates and all are proven, else 1."""
    parser = argparse.ArgumentParser(prog="proof", description="Recomputes what certificates claim.")
    parser.add_argument("out", type=Path, nargs="+", help="a certificate, a folder of them, or a run's folder")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a .keras file that they are about")
    parser.add_argument("--exact", action="store_true", help="ask exact arithmetic as well, for small ReLU networks")
    options = parser.parse_args(arguments)
    paths = [path for out in options.out for path in _certificates(out)]
    proven = 0
    models = _Models(options.model)
    for path in paths:
        try:
            claim = read_claim(path)
            graph = models.of(path.parent, claim.head["model"].get("file"), claim.digest)
            found, exact = check(claim, graph), opinion(claim, graph) if options.exact else None
        except (ProofError, MemoryError, RecursionError) as error:
            print(f"{printable(path.name)}: refused: {printable(error) or type(error).__name__}")
            continue
        proven += found.proven and (exact is None or exact.proven is True)
        verdict = f"proven at level {LEVEL}, margin" if found.proven else "not proven: the margin is at least"
        words = {True: "proven", False: "refuted", None: "open"}
        more = "" if exact is None else f"; in exact arithmetic {words[exact.proven]}, in {exact.pieces} pieces"
        print(f"{printable(path.name)}: {found.said}: {verdict} {found.margin:.6g}{more}")
    for model in models.said.values():
        print(f"of the model {model}")
    print(f"{proven} of {len(paths)} certificates proven")
    return 0 if paths and proven == len(paths) else 1


def _certificates(out: Path) -> list[Path]:
    """The certificates in a run's folder, in ``certificates/`` there, or the one that is named."""
    folder = out / "certificates" if (out / "certificates").is_dir() else out
    return sorted(folder.glob("*.npz")) if folder.is_dir() else [out]


if __name__ == "__main__":
    sys.exit(main())
