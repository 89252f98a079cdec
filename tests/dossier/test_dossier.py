"""Dossiers: what they say follows from the journal, a repeated run gives the same, and what was changed is found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sweeps import sweep_but

from tfcert.cli.main import main
from tfcert.dossier.pictures import data_url
from tfcert.dossier.recheck import recheck, write_dossier
from tfcert.dossier.words import stages_of
from tfcert.errors import UsageError
from tfcert.verdict import PROMISES

ROOT = Path(__file__).parents[2]
SPEC = """\
prop 1
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y") { range: [0, 1] }
strategy plan = crown { batch: 4 }
property robust(x, y in test) using plan {
  forall z in ball(x, linf, 0.05) within [0, 1] in net: argmax(clf(z)) == y
}
property far(x, y in test) using plan {
  forall z in ball(x, linf, 1) within [0, 1] in net: argmax(clf(z)) == y
}
measure radius(x, y in test) = largest r in [0, 0.5] tol 1e-2 such that
  forall z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) == y
  using plan
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two runs of one specification about images of four by four, with proofs, open answers, and a wrong label."""
    import keras
    import tensorflow as tf

    from tfcert.driver.verify import verify

    folder = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Flatten(), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    x = np.random.default_rng(0).random((5, 4, 4, 1)).astype(np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    y[3] = (y[3] + 1) % 3
    np.savez(folder / "test.npz", x=x, y=y)
    model.save(folder / "clf.keras")
    (folder / "s.prop").write_text(SPEC)
    tf.config.run_functions_eagerly(True)
    try:
        for name in ("one", "two"):
            verify(folder / "s.prop", out=folder / name, certificates=True, verbose=0)
            write_dossier(folder / name)
    finally:
        tf.config.run_functions_eagerly(False)
    return folder


@pytest.fixture
def run(runs, tmp_path) -> Path:
    """A copy of a run, to be changed."""
    shutil.copytree(runs / "one", tmp_path / "run")
    return tmp_path / "run"


def content(folder: Path) -> dict:
    return json.loads((folder / "dossier.json").read_text())["content"]


def test_a_dossier_follows_from_its_journal(runs, capsys):
    assert recheck(runs / "one") == []
    assert main(["recheck", str(runs / "one" / "dossier.html")]) == 0
    assert "everything follows" in capsys.readouterr().out


def test_a_repeated_run_gives_the_same_but_for_times(runs):
    one, two = (content(runs / name) for name in ("one", "two"))
    assert json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert "seconds" not in json.dumps(one["records"])


def test_numbers_are_those_of_the_journal(runs):
    said = content(runs / "one")
    lines = [json.loads(line) for line in (runs / "one" / "journal.jsonl").read_text().splitlines()]
    records = [line["record"] for line in lines if "record" in line]
    for question in said["questions"]:
        mine = [r for r in records if r["property"] == question["name"]]
        assert question["samples"] == len(mine) == 5
        if question["name"] != "radius":
            for outcome in ("verified", "falsified", "unknown", "timeout"):
                assert question["numbers"][outcome] == sum(r["outcome"] == outcome for r in mine)
    radii = [r["lower"] for r in records if r["property"] == "radius" and r["lower"] is not None]
    measured = next(q["numbers"] for q in said["questions"] if q["name"] == "radius")
    assert measured["median proven"] == pytest.approx(np.median(radii), rel=1e-5)
    certified = [r for r in records if r.get("certificate")]
    assert said["certificates"]["proven"] == len(said["certificates"]["checked"]) == len(certified) > 4
    assert "far" in {o["property"] for o in said["open"]}


def test_the_page_loads_nothing_and_says_what_a_reader_needs(runs):
    page = (runs / "one" / "dossier.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:)", page) and "url(" not in page
    witnesses = content(runs / "one")["witnesses"]
    assert page.count("data:image/png;base64,") == 3 * len(witnesses) > 0
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for words in (
        "Nothing here claims conformity",
        "every input within 0.05 of the sample (in the norm linf, in net space) has to satisfy the formula",
        "sound and incomplete",
        "No input of the region breaks the property when the model file is run in float32",
        "stronger stage",
        "tfcert recheck",
        content(runs / "one")["chain"][-1]["sha256"],
    ):
        assert words in plain, words


def test_what_levels_promise_is_what_the_guarantees_page_says():
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    table = text[: text.index("## ")]
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| ([^|]+?) \|", table, re.MULTILINE))
    assert {str(level): words for level, words in PROMISES.items()} == {str(k): rows[str(k)] for k in PROMISES}


def test_stages_are_told_with_what_they_can_do():
    told = dict(stages_of("pgd(steps=10) -> crown -> split { rounding: real }"))
    assert list(told) == ["pgd", "crown", "split"]
    assert "nothing is proven" in told["pgd"] and "incomplete" in told["crown"] and told["split"].count("complete")


def test_a_picture_is_one():
    """Its numbers can be read back, and are the same bytes every time."""
    import base64
    import struct
    import zlib

    image = np.arange(24.0).reshape(4, 2, 3)
    url = data_url(image, 0.0, 23.0)
    data = base64.b64decode(url.partition(",")[2])
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (2, 4)
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(4, 7)
    np.testing.assert_array_equal(rows[:, 1:].reshape(4, 2, 3), np.rint(255 * image / 23))
    assert url == data_url(image, 0.0, 23.0)


def test_a_verdict_that_is_changed_in_the_journal_is_told(run):
    for name in ("journal.jsonl", "result.json"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace('"outcome": "unknown"', '"outcome": "verified"'))
    found = recheck(run)
    assert any(
        re.search(r"records: \d+: outcome: \"unknown\" is said, and \"verified\" follows", line) for line in found
    )
    assert any("numbers: verified" in line for line in found)


def test_a_result_that_says_more_than_its_journal_is_told_even_in_a_new_dossier(run):
    text = (run / "result.json").read_text()
    (run / "result.json").write_text(text.replace('"outcome": "unknown"', '"outcome": "verified"'))
    write_dossier(run)
    assert recheck(run) == ["the result does not agree with the journal"]


def test_judgements_follow_from_the_journal(run):
    """A result that is judged otherwise is told, even in a new dossier, whose judgements are those that follow."""
    before = content(run)
    assert before["judged_from"] == "journal" and "fail" in {j["judgement"] for j in before["judged"]}
    said = json.loads((run / "result.json").read_text())
    assert [{k: j[k] for k in ("text", "judgement")} for j in said["header"]["judged"]] == before["judged"]
    for judged in said["header"]["judged"]:
        judged["judgement"] = "pass"
    (run / "result.json").write_text(json.dumps(said))
    write_dossier(run)
    assert content(run)["judged"] == before["judged"]
    assert recheck(run) == ["the result does not agree with the journal"]


def test_a_certificate_of_another_record_proves_nothing_of_this_one(run):
    first, second = sorted((run / "certificates").glob("robust-*.npz"))[:2]
    shutil.copy(first, second)
    write_dossier(run)
    (said,) = recheck(run)
    assert second.name in said and "of no record of this run" in said


def tampered(folder: Path, rng: np.random.Generator) -> str:
    """Changes one file of a run's folder, somehow; says how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    data, how = bytearray(path.read_bytes()), ("flip", "drop", "insert", "delete", "swap", "digit")[rng.integers(6)]
    place = int(rng.integers(len(data)))
    alike = [other for other in files if other.suffix == path.suffix and other.read_bytes() != bytes(data)]
    digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    if how == "delete":
        path.unlink()
    elif how == "swap" and alike:
        shutil.copy(alike[rng.integers(len(alike))], path)
    else:
        if how == "drop":
            del data[place]
        elif how == "insert":
            data.insert(place, int(rng.integers(32, 127)))
        elif how == "digit" and digits:
            place = digits[rng.integers(len(digits))]
            data[place] = ord("0") + (data[place] - ord("0") + int(rng.integers(1, 10))) % 10
        else:
            data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
    return f"{how} at {place} of {path.relative_to(folder)}"


@pytest.mark.parametrize(("count", "draw"), sweep_but([(10, 10)], [(10, 10), (200, 200), (200, 7)]))
def test_every_tampering_is_found(runs, tmp_path, count, draw):
    rng = np.random.default_rng(draw)
    for number in range(count):
        folder = tmp_path / str(number)
        shutil.copytree(runs / "one", folder)
        said = tampered(folder, rng)
        try:
            assert recheck(folder), said
        except UsageError as error:
            assert "tfcert dossier" in str(error), said  # the dossier itself is gone
        shutil.rmtree(folder)


def test_what_has_no_dossier_is_said(run, tmp_path, capsys):
    assert main(["recheck", str(tmp_path)]) == 4
    assert "tfcert dossier" in capsys.readouterr().err
    header = json.loads((run / "result.json").read_text())
    header["header"]["complete"] = False
    (run / "result.json").write_text(json.dumps(header))
    assert main(["dossier", str(run)]) == 4
    assert "--resume" in capsys.readouterr().err
    assert main(["recheck", str(run)]) == 1
    (run / "journal.jsonl").unlink()
    with pytest.raises(UsageError, match="no journal"):
        write_dossier(run)
