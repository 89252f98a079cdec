"""The house's rules: imports go one way, cheap things stay cheap, and nothing of a machine is committed."""

import ast
import configparser
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tfcert"

LEVELS = [
    {"verdict", "options", "errors", "model_files", "given", "quiet", "showing", "tracing"},
    {"catalog", "clauses", "misfit"},
    {"activations", "language"},
    {"network", "sets"},
    {"propagation", "attacks"},
    {"rigour"},
    {"certification", "proof"},
    {"complete", "estimates", "training", "report", "datasets"},
    {"loading", "objectives", "schedules", "metrics", "callbacks", "layers"},
    {"driver"},
    {"cli"},
    {"__main__"},
]
"""Lowest first. A part imports from lower levels only."""
ONLY = {
    "verdict": set(),
    "catalog": {"verdict"},
    "clauses": {"verdict"},
    "activations": {"verdict"},
    "language": {"verdict", "clauses", "catalog"},
    "network": {"verdict", "activations", "model_files"},
    "proof": {"verdict", "network"},
}
"""Parts that see less than their level allows."""


def imports() -> dict[str, set[str]]:
    """For each part of the package (a module or a folder of it) the other parts that it imports, anywhere."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: line {node.lineno} is a relative import"
                module = node.module or ""
                names = [f"tfcert.{a.name}" for a in node.names] if module == "tfcert" else [module]
            seen = {name.split(".")[1] for name in names if name.startswith("tfcert.")}
            found.setdefault(part, set()).update(seen - {part})
    return found


IMPORTS = imports()


def level(part: str) -> int:
    return next(i for i, parts in enumerate(LEVELS) if part in parts)


def test_every_part_has_its_level():
    unknown = set(IMPORTS) - set.union(*LEVELS)
    assert not unknown, f"say in LEVELS where {', '.join(sorted(unknown))} belong"


@pytest.mark.parametrize("part", sorted(set(IMPORTS) & set.union(*LEVELS)))
def test_imports_go_one_way(part):
    for other in sorted(IMPORTS[part]):
        assert level(other) < level(part), f"{part} must not import {other}"
        assert part not in ONLY or other in ONLY[part], f"{part} must not import {other}"


def test_no_parts_import_each_other_in_a_circle():
    assert list(TopologicalSorter(IMPORTS).static_order())


@pytest.mark.parametrize(
    "module", ["tfcert", "tfcert.language", "tfcert.datasets", "tfcert.verdict", "tfcert.cli.main", "tfcert.clauses"]
)
def test_importing_costs_no_tensorflow(module):
    code = f"import sys, {module}; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def setup_cfg() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg", encoding="utf-8")
    return found


def test_the_packages_that_are_installed_are_those_that_exist():
    listed = set(setup_cfg()["options"]["packages"].split())
    existing = {".".join(p.parent.relative_to(ROOT).parts) for p in PACKAGE.rglob("__init__.py")}
    assert listed == existing | {"tfcert.grammar"}
    assert (ROOT / "grammar" / "__init__.py").exists() and list((ROOT / "grammar").glob("*.lark"))


def committed() -> list[Path]:
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_no_committed_file_names_a_folder_of_somebody_s_machine_or_a_package_host():
    folders = re.compile(rb"(?<![\w./~>*\])-])/(?:work|root|home/\w+|Users/\w+)(?=[/\s\"'`:,)]|$)", re.MULTILINE)
    hosts = re.compile(rb"\b(?:pypi|pythonhosted)\.(?:org|io)\b")
    for path in committed():
        content = path.read_bytes()
        for pattern in (folders, hosts):
            found = pattern.search(content)
            assert found is None, f"{path.relative_to(ROOT)} holds {found.group().decode()!r}"


def test_no_committed_file_is_large():
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in committed() if p.stat().st_size > 1_000_000}
    assert not large
