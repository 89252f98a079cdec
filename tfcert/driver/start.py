"""The start of a run of a specification, checked as far as that takes no TensorFlow.

A mistake on the command line is answered at once: TensorFlow and the model, which take seconds, are loaded only when
options, parameters, files and folders are found to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcert.datasets import Samples
from tfcert.driver.bind import load_data, load_spec, spec_name
from tfcert.driver.files import require_models
from tfcert.driver.fingerprint import data_hash, masks_header
from tfcert.driver.folder import RunFolder
from tfcert.driver.header import restored, rounding_header, run_header, spec_header
from tfcert.driver.journal import JournalFolder
from tfcert.errors import UsageError
from tfcert.language import Spec
from tfcert.report.records import Json
from tfcert.report.stored import StoredResult, read_result


@dataclass(frozen=True)
class RunStart:
    """A checked specification with its samples, and where its run writes.

    Attributes:
        spec, bindings: the bindings of a resumed run are those of its folder, unless given again.
        data: the samples that the run needs, by name.
        folder: of the run.
        header: what a resumed run must agree with, as far as it is known without the models.
        earlier: a run whose proofs are tried first.
    """

    spec: Spec
    bindings: Mapping[str, Any]
    data: Mapping[str, Samples]
    folder: JournalFolder
    header: Json
    earlier: StoredResult | None = None


def begin(
    spec: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    bindings: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    since: str | Path | None = None,
    out: str | Path | None = None,
    root: str | Path | None = None,
) -> RunStart:
    """Checks what :func:`tfcert.verify` was given, and reads its samples. Arguments and errors as there."""
    folder = JournalFolder(out=out, resume=resume)
    checked, bindings, header = read_spec(spec, params, bindings, folder, root=root)
    header |= rounding_header()
    folder.require_same(header, "tfcert", "spec_sha256", "params", "rounding")
    require_models(checked, bindings)
    data = load_data(checked, bindings)
    header["data_sha256"] = {name: data_hash(samples) for name, samples in data.items()}
    header |= masks_header(checked)
    folder.require_same(header, "data_sha256", "masks_sha256")
    folder.settle(Path("out") / spec_name(checked))
    return RunStart(checked, bindings, data, folder, header, _earlier(since, header, folder.path))


def _earlier(since: str | Path | None, header: Json, out: Path) -> StoredResult | None:
    """The results of an earlier run on the same samples.

    Raises:
        UsageError: there are none, they are about other samples, or this run would write over them.
    """
    if since is None:
        return None
    found = read_result(since)
    if out.resolve() == found.path.parent.resolve():
        raise UsageError(
            f"{since} is where this run writes, which clears the earlier results away: move them, or write elsewhere "
            "(--out)"
        )
    then, now = (h.get("data_sha256") or {} for h in (found.header, header))
    others = [name for name in now if then.get(name, now[name]) != now[name]]
    if others:
        raise UsageError(
            f"{since} is about other samples of {' and '.join(others)} (values, labels or order): its proofs "
            "say nothing of these"
        )
    return found


def read_spec(
    spec: str | Path,
    params: Mapping[str, Any] | None,
    bindings: Mapping[str, Any] | None,
    folder: RunFolder,
    *,
    root: str | Path | None = None,
) -> tuple[Spec, Mapping[str, Any], Json]:
    """A specification with its bindings and header; of a run that is resumed, with what its folder says."""
    params, bindings = dict(params or {}), dict(bindings or {})
    if folder.then is not None:
        params, bindings = restored(folder.header_path, folder.then, params, bindings)
        root = root or folder.then["given"].get("root")
    checked = load_spec(spec, params, bindings, root=root)
    return checked, bindings, run_header() | spec_header(checked, params, bindings, root)
