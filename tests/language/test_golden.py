"""Every diagnostic has a text that provokes it and the message it must give.

A text may begin its second line with ``# set: NAME=VALUE``, ``# bind: NAME`` or ``# root: FOLDER``. After a deliberate
change of messages, ``python tests/language/test_golden.py`` writes the expected messages anew; read the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tfcert.language import CODES, SpecError, load, load_file

FOLDER = Path(__file__).parent / "golden"
TEXTS = sorted(FOLDER.glob("*.prop"))

GENERATED: dict[str, Callable[[], str]] = {
    "E001_long": lambda: "prop 1\n#" + "-" * (1 << 20),
    "E002_many": lambda: "prop 1\nassert " + "1 + " * 50_001 + "1 > 0\n",
}


def rendered(text: str, filename: str) -> str:
    """All diagnostics of a text as they are shown."""
    found = re.match(r"[^\n]*\n# (set|bind|root): (.*)\n", text)
    kind, value = found.groups() if found else ("", "")
    params = dict([value.split("=", 1)]) if kind == "set" else {}
    root = FOLDER / value if kind == "root" else None
    try:
        spec = load(text, filename=filename, params=params, bound=[value] if kind == "bind" else [], root=root)
    except SpecError as error:
        return error.render() + "\n"
    return "".join(w.render() + "\n" for w in spec.warnings)


def cases() -> dict[str, str]:
    """The text of each case by name."""
    return {p.stem: p.read_bytes().decode() for p in TEXTS} | {n: make() for n, make in GENERATED.items()}


@pytest.mark.parametrize("name", cases())
def test_diagnostic_is_rendered_as_expected(name: str) -> None:
    expected = (FOLDER / f"{name}.expected").read_text("utf-8")
    assert rendered(cases()[name], name + ".prop") == expected
    assert re.search(rf"\[{name[:4]}\]", expected), "the case does not provoke its own code"


def test_every_code_has_a_golden_case() -> None:
    assert {name[:4] for name in cases()} == set(CODES)


def test_reference_lists_every_code() -> None:
    reference = (FOLDER.parents[2] / "docs" / "language.md").read_text("utf-8")
    for code, meaning in CODES.items():
        assert f"| {code} | {meaning} |" in reference


def test_example_of_the_reference_is_valid() -> None:
    reference = (FOLDER.parents[2] / "docs" / "language.md").read_text("utf-8")
    spec = load(reference.split("```prop\n")[1].split("```")[0])
    assert set(spec.properties) == {"robust"} and set(spec.measures) == {"radius", "nearest"} and not spec.warnings


def test_messages_have_no_terminal_names() -> None:
    shown = "".join(p.read_text("utf-8") for p in FOLDER.glob("E101*.expected"))
    assert not re.search(r"LPAR|RPAR|NAME|ANON|\$END|RBRACE|COMPARISON", shown)


def test_file_beyond_the_limit_or_not_utf8_or_missing_is_a_diagnostic(tmp_path: Path) -> None:
    path = tmp_path / "s.prop"
    for content, code in ((b"#" * (1 << 21), "E001"), (b"prop 1\n\xff", "E005"), (None, "E007")):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SpecError) as caught:
            load_file(path)
        assert [d.code for d in caught.value.diagnostics] == [code]


if __name__ == "__main__":
    for case, source in cases().items():
        (FOLDER / f"{case}.expected").write_text(rendered(source, case + ".prop"), "utf-8")
