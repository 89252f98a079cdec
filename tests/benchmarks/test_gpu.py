"""The script for GPUs at a small size: every section of ours runs here, and no section takes more than its time."""

import importlib.util
import json
import sys

import pytest
from sweeps import sweep_but

from benchmarks import gpu


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu")
    gpu.prepare(path, small=True)
    return path


def test_the_sections_hold_eight_minutes():
    assert gpu.PREPARATION + sum(1.5 * limit for limit in gpu.WORKS.values()) <= gpu.TOTAL == 480


@pytest.mark.parametrize("work", sweep_but(["ibp", "radius", "training ibp"], gpu.WORKS))
def test_every_section_of_ours_measures_images_a_second(folder, work):
    found = gpu.ours(work, folder, gpu.SMALL, seconds=0.0)
    assert len(found["seconds"]) == 1 and found["images_per_second"] > 0
    assert found["images"] == (4 if work.startswith("training") else 2)


def test_exported_passes_run_and_search_without_tensorflow(tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: pip install 'tfcert[hlo]'")
    gpu.prepare(tmp_path, small=True, passes=("ibp", "crown"))
    code = (
        "import sys, pathlib; sys.modules['tensorflow'] = sys.modules['keras'] = sys.modules['tfcert'] = None\n"
        "from benchmarks import gpu, run_hlo\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "print(*(gpu.exported(work, folder, 0)['images_per_second'] > 0 for work in ('ibp', 'crown', 'radius')))"
    )
    found = gpu.subprocess.run([sys.executable, "-c", code], cwd=gpu.REPOSITORY, capture_output=True, text=True)
    assert found.stdout.split() == ["True"] * 3, found.stderr


def test_a_section_that_overruns_is_stopped_and_the_others_are_kept(tmp_path):
    def command(code: str) -> list[str]:
        return [sys.executable, "-c", code]

    file = tmp_path / "gpu.json"
    sections = {
        "fast": (command("print('noise'); print('{\"images_per_second\": 5.0}')"), 30.0),
        "slow": (command("import time; time.sleep(60)"), 1.0),
        "broken": (command("raise SystemExit('no such device')"), 30.0),
    }
    gpu.run_all(sections, {"sections": []}, file)
    fast, slow, broken = json.loads(file.read_text())["sections"]
    unprepared = {"sections": []}
    gpu.run_all({"prepare": sections["broken"], **sections}, unprepared, None)
    assert len(unprepared["sections"]) == 1
    assert fast == {"name": "fast", "images_per_second": 5.0}
    assert slow == {"name": "slow", "stopped_after_seconds": 1.0} and "no such device" in broken["failed"]
