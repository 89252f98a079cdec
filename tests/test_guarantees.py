"""The page on guarantees lists what the tables of the package hold."""

from pathlib import Path

from tfcert.catalog import ROUNDINGS
from tfcert.propagation.deployed import DEPARTURES
from tfcert.verdict import Guarantee

PAGE = (Path(__file__).parents[1] / "docs" / "guarantees.md").read_text(encoding="utf-8")


def listed(name: str) -> list[str]:
    """The rows between a mark and its end."""
    return PAGE.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0].splitlines()


def test_roundings_are_those_of_the_catalog():
    assert listed("roundings") == [f"| `{r.name}` | {r.about} | `{r.guarantee}` |" for r in ROUNDINGS.values()]


def test_what_is_outside_of_the_model_is_what_is_looked_at():
    assert listed("departures") == [f"| {each.name} | {each.when} | {each.what} |" for each in DEPARTURES]


def test_levels_are_all_there_strongest_first():
    rows = [line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows[: len(Guarantee)] == [str(level) for level in Guarantee]
