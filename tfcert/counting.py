"""Numbers of things, as one says them."""

from __future__ import annotations


def counted(number: int, thing: str, things: str = "") -> str:
    """``1 sample``, ``2 samples``, and ``2 properties`` where the plural is given."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"
