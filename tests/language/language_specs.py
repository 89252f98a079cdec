"""What tests of the language share: the head of a specification, and what loading one says."""

from __future__ import annotations

import pytest

from tfcert.language import Spec, SpecError, load

HEAD = """prop 1
model clf = keras("clf.keras")
dataset test = mnist5k(split="test") take 500 { scale: 1/255 normalize: { mean: 0.1307 std: 0.3081 } }
"""


def codes(text: str) -> list[str]:
    """The codes of everything that is wrong with a text."""
    with pytest.raises(SpecError) as caught:
        load(text)
    return [d.code for d in caught.value.diagnostics]


def spec(text: str) -> Spec:
    """The checked specification of a text after the head."""
    return load(HEAD + text)
