"""The planted bugs of tests/mutation.py still fit the sources (``make mutation`` shows that each is noticed)."""

import pytest
from mutation import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_planted_bug_still_changes_its_file(mutant):
    text = (ROOT / "tfcert" / mutant.file).read_text()
    assert mutant.old in text
    compile(text.replace(mutant.old, mutant.new, 1), mutant.file, "exec")
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file()
