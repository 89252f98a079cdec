"""``tfcert doctor``: what is installed, what works, and what to do about the rest."""

from __future__ import annotations

import argparse
import logging
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

from tfcert.catalog import SOLVERS
from tfcert.cli.arguments import json_argument, quiet_argument
from tfcert.cli.output import for_people, write_json
from tfcert.errors import ExitCode


class Symptom(NamedTuple):
    """Something that was looked at: what it is, how it stands, and what to do; ``needed`` if nothing works without."""

    what: str
    state: str
    advice: str = ""
    needed: bool = False


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """How what is found is told."""
    json_argument(parser, "what is found as a list of objects")
    quiet_argument(parser)


def run_doctor(options: argparse.Namespace) -> int:
    """Shows what was found. Exits with 1 where something is missing without which nothing works."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = [*packages(), *machine(), *solvers()]
    shown = for_people(options)
    write_json(options.json, [finding._asdict() for finding in found])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("state")
    table.add_column("what to do")
    for finding in found:
        style = "" if not finding.advice else "bold red" if finding.needed else "yellow"
        table.add_row(finding.what, Text(finding.state, style), Text(finding.advice))
    if not options.quiet:
        Console(highlight=False, file=shown).print(table)
    missing = [finding.what for finding in found if finding.advice and finding.needed]
    print(f"not usable: {', '.join(missing)}" if missing else "tfcert is usable", file=shown)
    return ExitCode.FAIL if missing else ExitCode.PASS


def packages() -> Iterator[Symptom]:
    """The packages that tfcert needs, then each extra as a whole."""
    from packaging.requirements import Requirement

    yield Symptom("tfcert", version("tfcert"))
    yield Symptom("python", platform.python_version())
    extras: dict[str, list[str]] = {}
    for text in requires("tfcert") or []:
        requirement = Requirement(text)
        name, wanted = requirement.name, str(requirement.specifier)
        there = _version(name)
        fits = there is not None and requirement.specifier.contains(there, prereleases=True)
        if requirement.marker is None:
            yield Symptom(name, there or "missing", "" if fits else f"pip install '{name}{wanted}'", needed=True)
        elif not fits:
            extra = str(requirement.marker).partition("extra ==")[2].strip(" \"'")
            extras.setdefault(extra, []).append(name if there is None else f"{name} {there}, not {wanted}")
    for extra in sorted(_extras()):
        lacking = extras.get(extra, [])
        state, advice = ("there", "") if not lacking else (", ".join(lacking), f"pip install 'tfcert[{extra}]'")
        yield Symptom(f"extra {extra}", state if not lacking else f"lacks {state}", advice)


def _extras() -> list[str]:
    from importlib.metadata import metadata

    return [extra for extra in metadata("tfcert").get_all("Provides-Extra") or [] if extra != "dev"]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> Iterator[Symptom]:
    """Cores, and the devices that TensorFlow sees."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Symptom("cores", str(cores))
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS")
    if threads:
        yield Symptom("threads of TensorFlow", f"{threads} (TF_NUM_INTRAOP_THREADS)")
    try:
        from tfcert.quiet import import_tensorflow

        import_tensorflow()
        import tensorflow as tf

        devices = [device.name for device in tf.config.list_physical_devices("GPU")]
    except ImportError as error:
        yield Symptom("devices", f"TensorFlow cannot be imported: {error}", "pip install tensorflow", needed=True)
        return
    yield Symptom("GPUs", ", ".join(devices) or "none that TensorFlow can use")


def solvers() -> Iterator[Symptom]:
    """The solvers of linear and integer programs, as far as they can be used here."""
    for name, solver in SOLVERS.items():
        logging.disable()  # a library that is not there is said below
        try:
            said = solver.load().complaint()
        finally:
            logging.disable(logging.NOTSET)
        yield Symptom(f"solver {name}", said or "works", "it is not needed where another one works" if said else "")
