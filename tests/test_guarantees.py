"""The pages on guarantees and on unknowns list what the tables of the package hold."""

from pathlib import Path

from tfcert.catalog import ROUNDINGS
from tfcert.propagation.deployed import DEPARTURES
from tfcert.verdict import Guarantee, Reason

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "guarantees.md").read_text(encoding="utf-8")


def listed(name: str, page: str = PAGE) -> list[str]:
    """The rows between a mark and its end."""
    return page.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0].splitlines()


def test_roundings_are_those_of_the_catalog():
    assert listed("roundings") == [f"| `{r.name}` | {r.about} | `{r.guarantee}` |" for r in ROUNDINGS.values()]


def test_what_is_outside_of_the_model_is_what_is_looked_at():
    assert listed("departures") == [f"| {each.name} | {each.when} | {each.what} |" for each in DEPARTURES]


def test_levels_are_all_there_strongest_first():
    rows = [line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows[: len(Guarantee)] == [str(level) for level in Guarantee]


def test_every_reason_that_can_be_done_something_about_is_on_the_page_on_unknowns():
    page = (DOCS / "unknown.md").read_text(encoding="utf-8")
    assert listed("reasons", page) == [f"| `{reason.value}` | {reason.advice} |" for reason in Reason if reason.advice]
