"""Pages run, each as one program, and print what stands below each of their blocks; what else they show is checked."""

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import tfcert
from tfcert.cli.main import build_parser
from tfcert.language import load

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
RELATIVE, COUNTS = 0.25, 3
"""How much a number may differ from what is printed: training is not the same on every machine."""


def blocks(text: str) -> list[tuple[str, str]]:
    """Each block of Python, and what it is said to print."""
    return [(code, output or "") for code, output in BLOCK.findall(text)]


def agree(printed: str, said: str) -> bool:
    """Whether two outputs are the same but for small differences of their numbers."""
    if NUMBER.sub("#", printed) != NUMBER.sub("#", said):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(said), strict=True)
    return all(abs(float(a) - float(b)) <= max(RELATIVE * float(b), 0 if "." in b else COUNTS) for a, b in pairs)


def run_page(
    page: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    left_out: tuple[str, ...] = (),
) -> None:
    """Runs the Python of a page as one program, in a folder that has the examples, and compares what it prints."""
    (folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(folder)
    namespace: dict = {}
    for number, (code, said) in enumerate(blocks((DOCS / page).read_text(encoding="utf-8")), start=1):
        if code.startswith(left_out):
            continue
        capsys.readouterr()
        exec(compile(code, f"block {number} of {page}", "exec"), namespace)
        printed = capsys.readouterr().out
        assert agree(printed, said), f"block {number} prints:\n{printed}"


@pytest.mark.parametrize("left_out", [("least = ",), pytest.param((), marks=pytest.mark.sweep)])
def test_the_tutorial_prints_what_it_says(left_out, tmp_path, monkeypatch, capsys):
    """The long sweep runs all of it: least perturbations take a third of the time, and no other block needs them."""
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn, which holds the digits, is not installed")
    run_page("tutorial.md", tmp_path, monkeypatch, capsys, left_out)


TINY = (
    "bounds.md", "campaigns.md", "control.md", "models.md", "preprocessing.md", "reports.md", "tabular.md", "unknown.md"
)  # fmt: skip
"""Pages whose networks are so small that they are not worth compiling."""
LONGER = ("python.md", "retraining.md", "training.md")
APART = ("onnx.md", "tutorial.md")


@pytest.mark.parametrize("page", TINY)
def test_a_page_prints_what_it_says(page, tmp_path, monkeypatch, capsys, eager):
    run_page(page, tmp_path, monkeypatch, capsys)


@pytest.mark.sweep
@pytest.mark.parametrize("page", LONGER)
def test_a_longer_page_prints_what_it_says(page, tmp_path, monkeypatch, capsys):
    run_page(page, tmp_path, monkeypatch, capsys)


def test_no_page_has_python_that_is_not_run():
    """`>>>` and other spellings of Python are not run, so there are none."""
    with_python = {page.name for page in DOCS.glob("*.md") if "```py" in page.read_text(encoding="utf-8")}
    assert with_python - {"grammar.md"} == {*TINY, *LONGER, *APART}
    fences = {line for page in DOCS.glob("*.md") for line in re.findall(r"^```(\w.*)$", page.read_text(), re.M)}
    assert fences - {"text", "{raw} html"} <= {"python", "prop", "sh", "yaml", "{toctree}", "{eval-rst}"}


def configurations() -> list[dict]:
    """What the page on campaigns shows for clusters."""
    yaml = pytest.importorskip("yaml")  # dask brings it
    page = (DOCS / "campaigns.md").read_text(encoding="utf-8")
    return [yaml.safe_load(code) for code in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)]


@pytest.mark.sweep
def test_a_job_of_slurm_starts_a_worker_as_the_page_on_campaigns_says():
    """Catches options that dask-jobqueue does not take, or takes for something else."""
    jobqueue, dask = pytest.importorskip("dask_jobqueue"), pytest.importorskip("dask")
    slurm, _ = configurations()
    before = dask.config.get("jobqueue")
    with dask.config.set(jobqueue=dask.config.update(before, slurm["jobqueue"])):
        options = {"interface": "lo", "scheduler_options": {"dashboard_address": None}}
        with jobqueue.SLURMCluster(**options) as cluster:
            script = cluster.job_script()
    for said in ("#SBATCH -p cpu\n", "#SBATCH --cpus-per-task=1\n", "#SBATCH -t 12:00:00\n", "/activate\n"):
        assert said in script
    assert "--nthreads 1 " in script and "--lifetime 11h30m" in script


def test_a_cluster_of_kubernetes_has_one_image_and_the_scheduler_that_the_page_on_campaigns_names():
    """Catches workers and scheduler of two versions, and an address at which nobody listens."""
    _, cluster = configurations()
    parts = [cluster["spec"][part] for part in ("worker", "scheduler")]
    assert len({part["spec"]["containers"][0]["image"] for part in parts}) == 1
    ports = [port["port"] for port in parts[1]["service"]["ports"]]
    address = f"tcp://{cluster['metadata']['name']}-scheduler:{ports[0]}"
    assert address in (DOCS / "campaigns.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every line of a page, and of the action, that calls tfcert in a shell."""
    found = []
    for page in [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "action.yml"]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        code = "\n".join(re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.M | re.S)) if page.suffix == ".md" else text
        found += re.findall(r"^\s*(?:run: )?(tfcert [a-z].*)$", code, re.M)
    return found


def test_commands_on_a_page_are_what_the_command_line_takes():
    said = commands()
    assert len(said) > 30
    for line in said:
        words = shlex.split(line.partition("||")[0].replace("$OPTIONS", ""), comments=True)
        try:
            build_parser().parse_args(words[1:])
        except SystemExit:
            pytest.fail(line)


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("40 verified, 0.030\n", True),
        ("43 verified, 0.035\n", True),
        ("50 verified, 0.030\n", True),
        ("52 verified, 0.030\n", False),
        ("40 verified, 0.040\n", False),
        ("40 refuted, 0.030\n", False),
        ("40 verified\n", False),
    ],
)
def test_outputs_agree_in_words_and_nearly_in_numbers(printed, same):
    assert agree(printed, "40 verified, 0.030\n") == same


@pytest.mark.parametrize("page", sorted(page.name for page in DOCS.glob("*.md")))
def test_python_on_a_page_takes_public_names_only(page):
    for code in re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tfcert":
                assert node.attr in tfcert.__all__, f"tfcert.{node.attr}"
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tfcert"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_files_that_the_glossary_names_are_there():
    lines = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    places = [place for line in lines if line.startswith("|") for place in re.findall(r"`([a-z_/]+(?:\.py|/))`", line)]
    assert len(places) > 50
    assert [place for place in places if not (ROOT / "tfcert" / place).exists()] == []


def specifications(page: str) -> list[str]:
    """The blocks of a page that are whole specifications."""
    return re.findall(r"^```(?:prop)?\n(prop 1\n.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def test_specifications_on_pages_are_without_mistakes():
    """A specification that is shown says what the tool takes: no errors, and no warnings either."""
    pages = ["README.md", *sorted(f"docs/{page.name}" for page in DOCS.glob("*.md"))]
    shown = [text for page in pages for text in specifications(page)]
    assert len(shown) >= 11
    for text in shown:
        found = load(text)
        assert not found.warnings, found.warnings[0].render()


def test_the_page_about_onnx_prints_what_it_says_and_lists_what_is_read(tmp_path, monkeypatch, capsys):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"ONNX models need the package {package}")
    from tfcert.network.onnx.graph import OPERATORS

    text = (DOCS / "onnx.md").read_text(encoding="utf-8")
    listed = re.sub(r"\([^)]*\)", "", text.rpartition("## Operators")[2])
    assert set(re.findall(r"\w+", listed)) == set(OPERATORS)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for number, (code, said) in enumerate(blocks(text), start=1):
        capsys.readouterr()
        exec(compile(code, f"block {number} of onnx.md", "exec"), namespace)
        printed = capsys.readouterr().out
        assert not said or agree(printed, said), f"block {number} prints:\n{printed}"
    assert printed.startswith("unsat\n0\nsat\n((X_0 ") and "(X_1 0.1)" in printed and printed.endswith("1\n")


def test_every_page_has_its_place_and_every_link_a_file():
    """A page that no list names is not found, and GitHub shows pages whose links only Sphinx would check."""
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index", "grammar"}
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^([a-z-]+)$", index, re.MULTILINE)
    assert set(listed) - {"grammar"} == pages and len(listed) == len(set(listed))
    for page in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        prose = re.sub(r"^```.*?^```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", prose):
            assert (page.parent / link).exists() or link == "grammar.md", f"{page.name}: {link}"
