"""Memory that was freed is not asked for again."""

import subprocess
import sys

import pytest

import tfcert

FAULTS = """
import resource
import tfcert

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), tfcert.keep_freed_memory(), faults(), faults())
"""


def test_an_array_as_large_as_one_that_was_freed_costs_no_page_faults():
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout.split()
    before, kept, first, again = int(found[0]), found[1] == "True", int(found[2]), int(found[3])
    if not kept:
        pytest.skip("the C library is not glibc")
    assert first < before / 4  # the first of eight arrays is new
    assert again < before / 100


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_changed(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert not tfcert.keep_freed_memory()
