"""How ``tfcert radius`` bounds, and what of its run is checked without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfcert.catalog import METHODS, RELAXATIONS, check_method
from tfcert.driver.direct import Direct
from tfcert.driver.journal import FILE_NAME, read_header, require_same
from tfcert.driver.start import require_writable, run_header
from tfcert.errors import UsageError
from tfcert.options import BoundOptions
from tfcert.report.records import Json

DEFAULTS: Json = {"norm": "linf", "clip": None, "limit": 100, "method": "crown", "relaxation": None, "targets": "all"}
"""What radii are measured by where nothing else is said."""


@dataclass(frozen=True)
class Bounding:
    """How to bound, as ``certified_radius`` takes it; None stands for the defaults."""

    method: str = "crown"
    relaxation: str | None = None
    targets: str = "all"
    iterations: int | None = None
    learning_rate: float | None = None
    batch: int = 50

    def options(self) -> BoundOptions:
        """Raises a UsageError for names that do not exist, or options of the optimising methods given to another."""
        try:
            check_method(self.method, self.relaxation)
        except ValueError as error:
            raise UsageError(str(error)) from error
        given = {k: v for k in ("iterations", "learning_rate") if (v := getattr(self, k)) is not None}
        if given and not self._optimises:
            methods = " or ".join(name for name, method in METHODS.items() if method.optimises)
            relaxations = " or ".join(name for name, relaxation in RELAXATIONS.items() if relaxation.where)
            raise UsageError(
                f"--iterations and --learning-rate are for the method {methods} and the relaxation {relaxations}, "
                f"which optimise their bounds; {self.method} does not"
            )
        return BoundOptions(**given)

    @property
    def _optimises(self) -> bool:
        searched = self.relaxation is not None and bool(RELAXATIONS.find(self.relaxation).where)
        return METHODS.find(self.method).optimises or searched

    def params(self) -> dict[str, object]:
        """What the radii depend on: everything but the size of a batch."""
        options = self.options()
        used = {"iterations": options.iterations, "learning_rate": options.learning_rate} if self._optimises else {}
        return {k: v for k, v in asdict(self).items() if k in ("method", "relaxation", "targets")} | used


def radius_params(given: Mapping[str, Any], resume: str | None) -> Json:
    """What radii are measured by: what is given (None: not), and the rest from the folder that is resumed.

    Raises:
        JournalError: something given is not what the folder says; old and new are told.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if resume is None:
        return DEFAULTS | given
    then = read_header(Path(resume))
    require_same(
        Path(resume) / FILE_NAME, then, run_header() | {"params": then["params"] | given}, ("tfcert", "params")
    )
    kept: Json = DEFAULTS | then["params"]
    return kept


@dataclass(frozen=True)
class RadiiStart:
    """A run that is checked: samples, how to bound, its header as far as it is known without the model, its folder."""

    data: Direct
    bounding: Bounding
    header: Json
    folder: Path
    resumed: bool


def begin_radii(data: Direct, bounding: Bounding, *, out: str | None = None, resume: str | None = None) -> RadiiStart:
    """What a run starts with, checked without TensorFlow. Arguments and errors as for ``measure_radii``."""
    bounding.options()
    then = None if resume is None else read_header(Path(resume))
    header = data.header(bounding.params()) | {"batch": bounding.batch}
    folder = Path(resume or out or Path("out") / f"radius-{Path(data.model).stem}-{data.norm}")
    if then is not None:
        require_same(folder / FILE_NAME, then, header, ("tfcert", "params", "data_sha256"))
    require_writable(folder)
    return RadiiStart(data, bounding, header, folder, resume is not None)
