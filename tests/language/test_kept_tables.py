"""The tables of the grammar that are kept between runs: the same parser with and without, and never a stale one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import lark
import pytest

from tfcert.language.text import tables
from tfcert.language.text.parser import _WordsEverywhere

TEXT = 'prop 1\nmodel f = keras("f.keras")\nproperty p { forall z in box([0, 1]) where z[0] > 1/2: f(z)[0] > 0 }\n'


def parsed(folder: Path | None) -> lark.Tree:
    return tables.parser(_WordsEverywhere(), folder).parse(TEXT, start="start")


def test_what_is_read_from_kept_tables_is_what_is_read_without(tmp_path, monkeypatch):
    first = parsed(tmp_path)
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr(lark.lark, "load_grammar", None)  # the grammar is not looked at again
    assert parsed(tmp_path) == first and list(tmp_path.iterdir()) == [kept]
    monkeypatch.undo()
    monkeypatch.setenv("TFCERT_CACHE", "")
    assert parsed(None) == first


def test_a_torn_file_is_computed_again(tmp_path):
    first = parsed(tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    for torn in (whole[:-500], whole[:500], b"", b"nothing of the kind\n"):
        kept.write_bytes(torn)
        assert parsed(tmp_path) == first
        assert tables._read(kept) is not None  # put right again


def test_tables_of_another_grammar_or_python_are_not_read(tmp_path, monkeypatch):
    parsed(tmp_path)
    monkeypatch.setattr(sys, "version", sys.version + " another")
    parsed(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions of files are POSIX's")
def test_a_folder_that_others_write_to_or_that_cannot_be_made_is_left_alone(tmp_path):
    shared, file = tmp_path / "shared", tmp_path / "file"
    shared.mkdir()
    shared.chmod(0o777)
    file.write_text("no folder")
    first = parsed(shared)
    assert list(shared.iterdir()) == [] and parsed(file / "below") == first


def test_a_folder_that_cannot_be_written_to_is_left_as_it_is(tmp_path, monkeypatch):
    def refuse(*names):
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    parsed(tmp_path)
    assert list(tmp_path.iterdir()) == []
