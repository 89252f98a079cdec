"""The header of a run: what its results depend on, written down when it begins and compared when it is resumed."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tfcert.driver.fingerprint import SCHEME
from tfcert.errors import JournalError
from tfcert.language import Spec
from tfcert.options import options_of
from tfcert.report.records import Json

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-probability")
IDENTITY = (
    "tfcert", "spec_sha256", "objective", "params", "rounding", "weights_sha256", "data_sha256", "masks_sha256",
    "preprocessing", "abstractions",
)  # fmt: skip
"""Keys that must agree before a run may go on from another one's results; a kind of run has those that it knows."""
SAYS_VALUES = ("tfcert", "params", "rounding")
"""Those of them whose values tell a reader more than that they differ."""

_WORDS = {
    "tfcert": "tfcert's version",
    "spec_sha256": "the specification",
    "objective": "the objective",
    "params": "the parameter {}",
    "rounding": "the rounding that proofs take into account (where a strategy does not say it)",
    "weights_sha256": "what {} computes (its graph, options or weights)",
    "data_sha256": "the samples of {} (values, labels or order)",
    "masks_sha256": "the mask {}",
    "preprocessing": "the preprocessing of {} (scale or normalize)",
    "abstractions": "the abstraction of {}",
}


def run_header() -> Json:
    """Begins the header of a run, of whatever kind."""
    return {
        "tfcert": package_version("tfcert"),
        "hashes": SCHEME,
        "versions": {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def rounding_header(rounding: str | None = None) -> Json:
    """What proofs of a run are about, where its strategies say nothing of it; as for
    :func:`~tfcert.options.options_of`."""
    return {"rounding": options_of(rounding).rounding}


def package_version(name: str) -> str | None:
    """The installed version; None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def spec_header(
    spec: Spec, params: Mapping[str, Any], bindings: Mapping[str, Any], root: str | Path | None = None
) -> Json:
    """Describes a specification, and what was given for its names, as JSON can hold it."""
    return {
        "spec": spec.filename,
        "spec_text": spec.text,
        "spec_sha256": spec.source_hash,
        "params": {name: param.shown for name, param in spec.params.items()},
        "given": {
            "params": {n: v if isinstance(v, bool | int | float | str) else str(v) for n, v in params.items()},
            "bindings": {
                name: str(Path(value).resolve()) if isinstance(value, str | Path) else None
                for name, value in bindings.items()
            },
            **({} if root is None else {"root": str(Path(root).resolve())}),
        },
    }


def restored(
    path: Path, then: Json, params: Mapping[str, Any], bindings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and bindings of a run that is resumed: those of its header ``then`` in ``path``, unless given again.

    Raises:
        JournalError: another version of tfcert wrote it, it is no run of a specification, or a binding was an object
            of Python.
    """
    require_same(path, then, run_header(), ("tfcert",))
    if "given" not in then:
        raise JournalError(f"{path} is of a run without a specification, such as `tfcert radius` makes: resume it so")
    given = then["given"]
    lost = [name for name, file in given["bindings"].items() if file is None and name not in bindings]
    if lost:
        raise JournalError(
            f"{path} does not hold what Python gave for {' and '.join(lost)}: give it again, as "
            f"bindings={{{lost[0]!r}: ...}} in Python or --bind {lost[0]}=PATH on the command line."
        )
    return {**given["params"], **params}, {**given["bindings"], **bindings}


def require_same(path: Path, then: Json, now: Json, keys: Sequence[str] = IDENTITY) -> None:
    """Checks that a run which is resumed asks what the one that wrote ``path`` asked, by the keys of both headers.

    Raises:
        JournalError: it does not; says what differs, old and new.
    """
    if then.get("hashes") != SCHEME:
        raise JournalError(
            f"{path} was written by another version of tfcert, whose hashes of models say something else than this "
            "one's: whether its results are about the same models cannot be told. Run without --resume to start over."
        )
    changed = [difference for key in keys for difference in _differences(key, then.get(key), now.get(key))]
    if changed:
        raise JournalError(
            f"{path} was written by another run: {'; '.join(changed)}. Run without --resume to start over, or resume "
            "with what it was started with."
        )


def _differences(key: str, then: Any, now: Any) -> list[str]:
    """Tells what differs in one key of the headers, a phrase each: by name where there are several."""
    if then == now:
        return []
    pairs = {"the model": (then, now)}
    if isinstance(then, dict) and isinstance(now, dict):
        pairs = {n: (then.get(n), now.get(n)) for n in dict.fromkeys([*then, *now]) if then.get(n) != now.get(n)}
    return [
        _WORDS[key].format(name)
        + (f" was {_said(old)} and is now {_said(new)}" if key in SAYS_VALUES else " changed since")
        for name, (old, new) in pairs.items()
    ]


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)
