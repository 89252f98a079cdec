"""How long a script may go on: ``--minutes``, after which it begins nothing; what it has begun it ends and stores."""

from __future__ import annotations

import argparse
import math
import time


class Clock:
    """Whether the minutes that a script was given are up, from when it is made.

    Args:
        minutes: of ``--minutes``; infinity where there is no end.
    """

    def __init__(self, minutes: float = math.inf):
        self.end = time.monotonic() + 60 * minutes

    @property
    def over(self) -> bool:
        """Whether nothing more is begun."""
        return time.monotonic() > self.end

    @property
    def left(self) -> float:
        """Minutes that are left, at least 0."""
        return max(0.0, (self.end - time.monotonic()) / 60)


def add_minutes(parser: argparse.ArgumentParser) -> None:
    """The option ``--minutes`` of a script that keeps what it has and goes on in its next run."""
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin nothing after this time; run again to go on"
    )
