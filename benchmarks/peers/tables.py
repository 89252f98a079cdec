"""The README's table of the comparison with auto_LiRPA."""

from __future__ import annotations

from typing import Any

from benchmarks.common import store

PEER = "auto_LiRPA"
_PLACE = ("cpu", "cores", "threads", "tensorflow", "keras", "numpy", "torch", "auto_LiRPA", "neuralsat")

_COLUMNS = (
    "pass, ms", "times faster", "first pass, s", "peak memory, MiB", "GFLOP/s", "of peak", "margins above the peer's",
)  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The results as Markdown: one table for each machine and set of versions that they were measured with."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for case in result["cases"]:
        groups.setdefault(tuple(case["machine"].get(key) for key in _PLACE), []).append(case)
    return "\n\n".join(_group(cases) for cases in groups.values())


def _group(cases: list[dict[str, Any]]) -> str:
    load = max(case["machine"]["load_average"] for case in cases)
    line = store.machine_line(cases[0]["machine"] | {"load_average": f"at most {load}"})
    peak = max(case["peak_gflops"] for case in cases)
    rows = [row for case in cases for row in _rows(case, peak)]
    return f"{line} Peak (matrix product): {peak:.0f} GFLOP/s.\n\n{store.markdown(rows)}"


def _rows(case: dict[str, Any], peak: float) -> list[dict[str, str]]:
    seconds = {name: side["seconds"] for name, side in case["passes"].items()}
    head = {"network": case["network"], "norm": case["norm"], "method": case["method"]}
    empty = dict.fromkeys(_COLUMNS, "")
    rows = []
    if "peer_refused" in case:
        refused = case["peer_refused"]
        text = f"out of memory at {refused['allowed_gib']:g} GiB after {refused['after_seconds']:.0f} s"
        rows.append({**head, "side": PEER, **empty, "peak memory, MiB": text})
    for name, value in seconds.items():
        row = {**head, "side": name, **empty, "pass, ms": f"{1000 * value:.1f}"}
        row["first pass, s"] = f"{case['first_pass_seconds'][name]:.1f}"
        row["peak memory, MiB"] = f"{case['peak_mib'][name]:.0f}"
        if name != PEER and "gflop_useful" in case:
            rate = case["gflop_useful"] / value
            row |= {"GFLOP/s": f"{rate:.1f}", "of peak": f"{100 * rate / peak:.0f}%"}
        if name != PEER and PEER in seconds:
            row["times faster"] = f"{seconds[PEER] / value:.1f}"
            row["margins above the peer's"] = "{least:.0e} to {most:.0e}, mean {mean:.0e}".format(**case["gain"][name])
        rows.append(row)
    return rows
