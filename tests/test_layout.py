"""The house's rules: imports go one way, cheap things stay cheap, and nothing of a machine is committed."""

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tfcert"

LEVELS = [
    {"parts", "roundoff"},
    {"errors", "options", "quiet", "memory", "showing", "given", "tracing", "verdict", "digest"},
    {"entries"},
    {"clauses", "catalog", "misfit", "sets.rounding"},
    {"datasets", "model_files"},
    {"language.text"},
    {"language.spec"},
    {"language.check"},
    {"language.loader", "language.vnnlib"},
    {"language"},
    {"activations", "report"},
    {"network", "sets", "proof"},
    {"attacks"},
    {"propagation"},
    {"rigour"},
    {"complete"},
    {"certification"},
    {"estimates", "training"},
    {"loading", "objectives", "schedules", "metrics", "callbacks", "layers"},
    {"zoo", "plots"},
    {"driver.arrivals"},
    {"driver.overlaps"},
    {"driver.slices"},
    {"driver.regions", "driver.fingerprint", "driver.sources", "driver.doubts", "driver.judge",
     "driver.budget", "driver.tally"},
    {"driver.progress"},
    {"driver.interrupts", "driver.pieces", "driver.region_text", "driver.neighbours"},
    {"driver.points"},
    {"driver.task", "driver.inside"},
    {"driver.abstracted", "driver.header", "driver.batch", "driver.heads", "driver.joining"},
    {"driver.stages"},
    {"driver.explain", "driver.bind"},
    {"driver.writers"},
    {"driver.verdicts", "driver.artifacts", "driver.files", "driver.train.bind", "driver.since"},
    {"driver.explain_sample"},
    {"driver.executor.base"},
    {"driver.executor.job"},
    {"driver.executor.worker", "driver.executor.guest"},
    {"driver.executor.local", "driver.executor.cluster"},
    {"driver.executor.pool"},
    {"driver.folder", "driver.direct.request", "driver.train.build", "driver.train.order"},
    {"driver.journal", "driver.property", "driver.distances", "driver.train.search"},
    {"driver.keeper"},
    {"driver.measure", "driver.piecewise", "driver.distance_task", "driver.start", "driver.direct.ask",
     "driver.status"},
    {"driver.bracket", "driver.share"},
    {"driver.piecewise_measure", "driver.premises", "driver.certificates"},
    {"driver.bench"},
    {"driver.spec_job"},
    {"driver.verify", "driver.several", "driver.direct", "driver.train.start", "driver.typed", "driver.exporting"},
    {"driver.vnnlib"},
    {"driver.train.run"},
    {"driver", "driver.train"},
    {"editor"},
    {"dossier"},
    {"cli.arguments"},
    {"cli"},
    {"__main__"},
]  # fmt: skip
"""The order of the files, lowest first: a name stands for a module, or for the modules of a folder that are not named
themselves. A file imports from lower levels, and from its own name; the others of its level it does not see."""
ONLY = {
    "verdict": set(),
    "clauses": {"verdict"},
    "entries": {"verdict"},
    "catalog": {"verdict", "entries"},
    "proof": set(),
    "activations": {"verdict", "clauses", "catalog", "roundoff"},
    "language": {"verdict", "clauses", "catalog", "sets.rounding"},
    "report": {"verdict", "clauses", "catalog", "showing", "errors"},
}
"""NamedParts that see less than their level allows."""
POINTS_ANYWHERE = {"tfcert", "tfcert.catalog"}
"""Public names and the catalog's entries name modules by strings, which may point upward from there alone."""
IMPORTS_BY_NAME = {
    "tfcert": "public names, when they are first used",
    "tfcert.entries": "the objects of the catalog's entries, when they are first asked for",
    "tfcert.datasets.base": "packages that a source needs",
    "tfcert.network.keras.private": "modules inside Keras",
}
"""Who imports a module whose name is not written there, and what."""


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str, node: ast.AST) -> list[str]:
    """The modules of the package that a piece of code names: in an import, wherever it stands, or as a string."""
    match node:
        case ast.Import(names):
            return [alias.name for alias in names if alias.name in MODULES]
        case ast.ImportFrom(source, names, level):
            if module.startswith("tfcert.proof.") and level == 1:  # the checker runs under another name as well
                return [full] if (full := f"tfcert.proof.{source}") in MODULES else []
            assert level == 0, f"{module}: line {node.lineno} is a relative import"
            return [full if (full := f"{source}.{a.name}") in MODULES else str(source) for a in names if source]
        case ast.Constant(str(text)) if module not in POINTS_ANYWHERE and "." in text:
            return [text.partition(":")[0]]
    return []


IMPORTS = {
    module: {name for node in ast.walk(tree) for name in imported(module, node) if name in MODULES} - {module}
    for module, tree in MODULES.items()
}
"""For each file the others that it imports, in functions and for type checkers alone too."""


def place(module: str) -> tuple[int, str]:
    """The level of a module, and the name in it that the module goes by: the longest that there is."""
    names = [module.removeprefix("tfcert.").rsplit(".", cut)[0] for cut in range(module.count("."))]
    return next((i, name) for name in names for i, level in enumerate(LEVELS) if name in level)


def inside() -> list[str]:
    return sorted(set(MODULES) - {"tfcert"})


def test_every_file_has_its_level():
    named = set.union(*LEVELS)
    unknown = [m for m in inside() if not any(f"{m}.".startswith(f"tfcert.{name}.") for name in named)]
    assert not unknown, f"say in LEVELS where {', '.join(unknown)} belong"


@pytest.mark.parametrize("module", inside())
def test_imports_go_one_way(module):
    level, name = place(module)
    only = next((ONLY[part] for part in ONLY if f"{module}.".startswith(f"tfcert.{part}.")), None)
    for other in sorted(IMPORTS[module]):
        assert other != "tfcert", f"{module} must import from where a name is defined, not from tfcert"
        its_level, its_name = place(other)
        assert its_level < level or its_name == name, f"{module} must not import {other}"
        seen = only is None or any(f"{other}.".startswith(f"tfcert.{part}.") for part in (*only, module.split(".")[1]))
        assert seen, f"{module} must not import {other}"


def test_no_files_import_each_other_in_a_circle():
    assert list(TopologicalSorter(IMPORTS).static_order())


@pytest.mark.parametrize(
    "code",
    [
        "from tfcert.sets import balls",
        "import tfcert.sets.balls",
        "def f():\n    from tfcert.sets.balls import LpBall",
        "if TYPE_CHECKING:\n    from tfcert.sets.balls import LpBall",
        "import_module('tfcert.sets.balls')",
        "where = 'tfcert.sets.balls:LpBall'",
    ],
)
def test_an_import_is_seen_however_it_is_written(code):
    assert {n for node in ast.walk(ast.parse(code)) for n in imported("tfcert.x", node)} == {"tfcert.sets.balls"}


def test_modules_are_imported_by_names_that_can_be_read():
    """``import_module(name)`` would hide what it imports from the tests above."""
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
                "import_module",
                "__import__",
            ):
                written = isinstance(node.args[0], ast.Constant)
                assert written or module in IMPORTS_BY_NAME, f"{module}, line {node.lineno}"


def defined(module: str, tree: ast.Module) -> Iterator[str]:
    """The public classes, functions and types of a module. Converters of Keras's layers and operations do not count:
    each is called what it converts. Nor do those of the zoo, which are read after its name: ``tfcert.zoo.names``, and
    of the checker, which stands by itself and has its own."""
    if module.startswith("tfcert.proof."):
        return
    if module.split(".")[:2] == ["tfcert", "zoo"] and module not in ("tfcert.zoo.network", "tfcert.zoo.recipe"):
        return
    for node in tree.body:
        match node:
            case ast.ClassDef(name) if not name.startswith("_"):
                yield name
            case ast.FunctionDef(name) if not name.startswith("_"):
                converts = module.startswith("tfcert.network.keras.") and "builder" in {a.arg for a in node.args.args}
                yield from [] if converts else [name]
            case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)) if re.match(
                "[A-Z][A-Za-z0-9]*[a-z]", name
            ):
                yield name


def test_a_name_means_one_thing():
    """A public class, function or type is defined in one module, but for ``main``, which is what runs a program."""
    where: dict[str, list[str]] = {}
    for module, tree in MODULES.items():
        for name in defined(module, tree):
            where.setdefault(name, []).append(module)
    assert not {name: modules for name, modules in where.items() if len(modules) > 1 and name != "main"}


LIGHT = ("tfcert", "tfcert.language", "tfcert.datasets", "tfcert.verdict", "tfcert.sets.balls", "tfcert.cli.main")


@pytest.mark.parametrize("module", [*LIGHT, "tfcert.clauses", "tfcert; tfcert.LpBall"])
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


def test_no_two_test_files_are_one_module():
    """pytest imports files of folders that are no packages by their names alone, and stops where two have the same."""
    loose = [p.name for p in (ROOT / "tests").rglob("test_*.py") if not (p.parent / "__init__.py").exists()]
    assert sorted(set(loose)) == sorted(loose)


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
