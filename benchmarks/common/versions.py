"""Two versions of tfcert: a commit's files, how Python imports them, and a process that works with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WORKER = Path(__file__).with_name("side.py")
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip


class ComparisonError(RuntimeError):
    """A version cannot be checked out, its process ended, or it ran files of another version."""


class Side:
    """A process that does one case's work with one version, a turn at a time.

    Args:
        tree: the version's files.
        site: a folder from which Python imports that version's ``tfcert`` (:func:`importable`).
        work: the file of the cases and the case's name.
        threads: of the process.
    """

    def __init__(self, tree: Path, site: Path, work: tuple[Path, str], threads: int):
        self.tree = tree.resolve()
        self._log = (site / "log.txt").open("w+")
        environment = os.environ | {"PYTHONPATH": str(site), "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment |= dict.fromkeys(_THREADS, str(threads))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(_WORKER), str(work[0].resolve()), work[1]],
            cwd=site, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip

    def turn(self) -> dict[str, float]:
        """Does the work once.

        Raises:
            ComparisonError: the process ended, with the last of what it printed.
        """
        return self._ask("run")

    def close(self) -> None:
        """Ends the process.

        Raises:
            ComparisonError: a module of tfcert that it imported is not of its version.
        """
        try:
            files = self._ask("files")["files"]
        finally:
            self.kill()
        strays = [file for file in files if not Path(file).is_relative_to(self.tree)]
        if strays or not files:
            raise ComparisonError(f"tfcert of {self.tree} was to run, but {(strays or ['no tfcert'])[0]} did")

    def kill(self) -> None:
        """Ends the process, whatever it does."""
        if not self._log.closed:
            self._process.kill()
            self._process.communicate()
            self._log.close()

    def _ask(self, request: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(request, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._log.seek(0)
            raise ComparisonError(f"the work with {self.tree} ended early:\n{self._log.read()[-2000:].strip()}")
        return json.loads(answer)


@contextmanager
def checked_out(repository: Path, revision: str) -> Iterator[Path]:
    """The files of a commit in a temporary folder, as a worktree of ``repository``.

    Raises:
        ComparisonError: there is no such commit.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _git(repository, "worktree", "add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            _git(repository, "worktree", "remove", "--force", str(tree))


def importable(tree: Path, site: Path) -> Path:
    """Fills ``site`` with a package ``tfcert`` made of links to a version's files, the grammar inside of it.

    The version's own folder does not do: its grammar lies beside the package, and its ``benchmarks`` would be found.
    """
    package = site / "tfcert"
    package.mkdir(parents=True)
    for entry in (tree / "tfcert").iterdir():
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry.resolve())
    if (tree / "grammar").is_dir():
        (package / "grammar").symlink_to((tree / "grammar").resolve())
    return site


def _git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True)
    if done.returncode:
        raise ComparisonError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def commit(repository: Path, revision: str) -> str:
    """A commit's short name; of the working tree (``""``) HEAD's, with ``+`` where the package differs from it."""
    name = _git(repository, "rev-parse", "--short", f"{revision or 'HEAD'}^{{commit}}")
    changed = not revision and _git(repository, "status", "--short", "--", "tfcert", "grammar")
    return name + ("+" if changed else "")
