"""The README's tables of the comparison with auto_LiRPA."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.common import store
from benchmarks.common.timing import quartiles, times_faster

PEER, US = "auto_LiRPA", "tfcert"
_PLACE = ("name", "cores", "threads", "tensorflow", "keras", "numpy", "torch", "auto_LiRPA", "neuralsat", "onednn")


def table(rows: list[dict[str, Any]]) -> str:
    """The stored rows as Markdown: the machines, how fast both sides are, and what a pass of each costs."""
    places: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        places.setdefault(tuple(row["machine"].get(key) for key in _PLACE), []).append(row)
    machines = "\n".join(f"- {_machine(some)}" for some in places.values())
    return "\n\n".join([machines, store.markdown(list(map(_speed, rows))), store.markdown(list(map(_cost, rows)))])


def _machine(rows: list[dict[str, Any]]) -> str:
    """A machine and the versions of its rows, in a sentence or two."""
    load = max(row["machine"]["load_average"] for row in rows)
    head = rows[0]["machine"] | {"load_average": f"at most {load}", "cpu": f"**{rows[0]['machine']['name']}**"}
    facts = {
        "GFLOP/s in TensorFlow's matrix product": [row["peak_gflops"] for row in rows],
        "in PyTorch's": [row["peer_peak_gflops"] for row in rows if "peer_peak_gflops" in row],
        "GB/s of memory": [row["memory_gb_per_second"] for row in rows if "memory_gb_per_second" in row],
    }
    peaks = ", ".join(f"{max(values):.0f} {name}" for name, values in facts.items() if values)
    commits = sorted({row["commit"] for row in rows if "commit" in row})
    return f"{store.machine_line(head)} {peaks}." + (f" tfcert {', '.join(commits)}." if commits else "")


def _head(row: dict[str, Any]) -> dict[str, str]:
    return {
        "network": row["network"],
        "norm": row["norm"],
        "method": row["method"],
        "machine": row["machine"]["name"],
    }


def _speed(row: dict[str, Any]) -> dict[str, str]:
    passes, peer = row["passes"], row["passes"].get(PEER)
    seconds = passes[US]["seconds"]
    found = _head(row) | {f"{PEER}, ms": _spread(peer["all"]) if peer else _refusal(row)}
    found[f"{US}, ms"] = _spread(passes[US]["all"])
    faster = times_faster(passes[US]["all"], peer["all"]) if peer else None
    found["times faster"] = "{:.1f} ({:.1f} to {:.1f})".format(*faster) if faster else ""
    found["first pass, s"] = _both(row.get("first_pass_seconds", {}), ".2f")
    found["second process, s"] = _both(row.get("second_process_seconds", {}), ".2f")
    rate = row["gflop_useful"] / seconds if "gflop_useful" in row else None
    found["of peak"] = f"{100 * rate / row['peak_gflops']:.0f}%" if rate else ""
    gain = row.get("gain", {}).get(US)
    found["margins above the peer's"] = "{least:.0e} to {most:.0e}, mean {mean:.0e}".format(**gain) if gain else ""
    return found


def _spread(seconds: list[float]) -> str:
    low, high = quartiles(seconds)
    return f"{1000 * median(seconds):.1f} ({1000 * low:.0f} to {1000 * high:.0f})"


def _refusal(row: dict[str, Any]) -> str:
    refused = row["peer_refused"]
    return f"out of memory at {refused['allowed_gib']:g} GiB after {refused['after_seconds']:.0f} s"


def _cost(row: dict[str, Any]) -> dict[str, str]:
    passes = row["passes"]

    def each(key: str, scale: float = 1000) -> dict[str, float]:
        return {name: scale * passes[name][key] for name in (PEER, US) if key in passes.get(name, {})}

    found = _head(row)
    found["processor, ms"] = _both(each("processor_seconds"), ".0f")
    found["of it in the kernel, ms"] = _both(each("kernel_seconds"), ".0f")
    found["page faults"] = _both(each("page_faults", 1), ".0f")
    found["peak memory, MiB"] = _both(row["peak_mib"], ".0f")
    for name in ("jit=False", "jit=True"):
        variant = passes.get(f"{US}, {name}")
        found[f"{name}, ms"] = f"{1000 * variant['seconds']:.1f}" if variant else ""
    return found


def _both(values: dict[str, float], form: str) -> str:
    """The peer's value and ours."""
    return " / ".join(format(values[name], form) for name in (PEER, US) if name in values)
