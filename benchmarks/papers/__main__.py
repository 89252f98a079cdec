"""The page of the five papers: ``python -m benchmarks.papers`` says what of it is open; ``--write`` writes it.

python -m benchmarks.papers --write     docs/reproduction.md, from the lines and the stored records
python -m benchmarks.papers.run PAPER   runs a paper's lines
"""

from __future__ import annotations

import argparse

from benchmarks.common import data
from benchmarks.papers import page
from benchmarks.papers.line import papers

PAGE = data.REPOSITORY / "docs" / "reproduction.md"


def main() -> None:
    """Writes the page, or counts."""
    parser = argparse.ArgumentParser(description="What the five papers claim, and what reproduces here.")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(data.REPOSITORY)}")
    if parser.parse_args().write:
        PAGE.write_text(page.page(PAGE.parent), encoding="utf-8")
        return
    for name, paper in papers().items():
        texts = [bool(line.answered()[0]) for line in paper.lines]
        parts = sum(len(line.left) for line in paper.lines)
        print(f"{name}: {sum(texts)} of {len(texts)} lines are answered, {parts} parts are open")


if __name__ == "__main__":
    main()
