"""The catalog is the one list of what there is: entries work, the docs repeat them, nothing unknown falls through."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tfcert import catalog, roundoff
from tfcert.catalog import (
    ATTACKS,
    BOUNDS,
    DISTANCES,
    FORMATS,
    GUIDES,
    METHODS,
    NORMS,
    RELAXATIONS,
    ROUNDINGS,
    SOLVERS,
    SOURCES,
    STAGES,
    Entry,
    MethodInfo,
)

DOCS = (Path(__file__).parents[1] / "docs" / "language.md").read_text(encoding="utf-8")
TABLES = {
    table.kind: table
    for table in (ATTACKS, BOUNDS, DISTANCES, FORMATS, GUIDES, METHODS, NORMS, RELAXATIONS, SOLVERS, SOURCES, STAGES)
}
PLACED = [(kind, name) for kind, table in TABLES.items() for name, entry in table.items() if entry.where]


@pytest.mark.parametrize(("kind", "name"), PLACED)
def test_what_an_entry_names_is_there(kind, name):
    propagates = kind == "relaxation" or (kind == "method" and not METHODS[name].asks_solver)
    wanted = ["plan", "pre_activation", "lower"] if propagates else ["bounds"] if kind == "method" else ["__call__"]
    wanted = ["load"] if kind == "solver" else wanted
    wanted = ["accepts", "load", "network", "state", "run", "digest"] if kind == "model format" else wanted
    part = TABLES[kind].load(name)
    assert all(callable(getattr(part, does, None)) for does in wanted)


@pytest.mark.parametrize("kind", TABLES)
def test_an_unknown_name_is_refused_with_what_there_is(kind):
    first = next(iter(TABLES[kind]))
    with pytest.raises(ValueError, match=f"unknown {kind} 'nope': one of {first}"):
        TABLES[kind].find("nope")


def test_what_does_not_work_yet_is_neither_found_nor_offered():
    with pytest.raises(ValueError, match=r"unknown model format 'tflite': one of keras, onnx$"):
        FORMATS.find("tflite")


def test_a_part_is_there_for_as_long_as_it_is_added_and_no_name_is_taken_twice():
    with METHODS.added(MethodInfo("a-b", cost="dear")):
        assert STAGES["a-b"].word == "a_b" and STAGES["a-b"].cost == "dear" and catalog.method_name("a_b") == "a-b"
        for taken in ("a-b", "a+b"):
            with pytest.raises(ValueError, match="already"):
                METHODS.add(MethodInfo(taken))
    assert "a-b" not in METHODS and "a-b" not in STAGES


def listed(names) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def stage_row(stage) -> str:
    return f"| `{stage.word}` | {stage.kind} | {listed(stage.options)} | {', '.join(stage.norms)} |"


def source_row(source) -> str:
    first = {"path": "a path", "folder": "a folder", "choice": listed(source.choices), "text": "a name", "": "none"}[
        source.positional
    ]
    ends = "" if source.range is None else f"{source.range[0]} to {source.range[1]}"
    return f"| `{source.word}` | {first} | {listed(source.options)} | {ends} |"


def distance_row(way) -> str:
    return f"| `{way.word}` | {way.title} | {way.promise} | {listed(way.options)} | {', '.join(way.norms)} |"


@pytest.mark.parametrize(
    "row",
    [
        *map(distance_row, DISTANCES.values()),
        *map(stage_row, STAGES.values()),
        *(source_row(s) for s in SOURCES.values() if s.supported),
    ],
)
def test_the_docs_have_a_row_for_each_stage_source_and_distance(row):
    assert f"{row}\n" in DOCS


def test_the_docs_have_no_row_more_and_name_every_relaxation():
    parts = DOCS.split("| Stage |")
    head = parts[0].split("| Source |")[1], parts[1].split("\n\n")[0], DOCS.split("| Way |")[1].split("\n\n")[0]
    rows = [line for part in head for line in part.splitlines() if line.startswith("| `")]
    assert len(rows) == len(STAGES) + len(DISTANCES) + sum(source.supported for source in SOURCES.values())
    *names, last = RELAXATIONS
    assert f"Relaxations are {listed(n for n in names if n != 'adaptive')} and `{last}` (the default)" in DOCS


def test_an_entry_s_word_is_what_a_specification_can_write():
    assert Entry("forward+backward").word == "forward_backward" and Entry("cbc-default").word == "cbc_default"


def lists_of_names() -> list[str]:
    """Where three or more names of one kind stand in one list of the package, outside of the catalog."""
    found = []
    for path in sorted(Path(catalog.__file__).parent.rglob("*.py")):
        if path == Path(catalog.__file__) or path.parent.name == "proof":  # the checker imports nothing of tfcert
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple | ast.List | ast.Set):
                texts = {e.value for e in node.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)}
                for kind, table in TABLES.items():
                    if len(texts) > 2 and texts <= {*table, *table.words()}:
                        found.append(f"{path.name}:{node.lineno} lists {kind}s: {sorted(texts)}")
    return found


def test_no_list_of_names_stands_anywhere_else():
    assert not lists_of_names()


def test_roundings_of_options_and_of_strategies_are_the_same():
    assert tuple(ROUNDINGS) == roundoff.ROUNDINGS
