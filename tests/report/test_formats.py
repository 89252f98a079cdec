"""Results read back and told anew: pages, test reports, annotations, tables and comments."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tfcert.catalog import REPORTS
from tfcert.cli.main import main
from tfcert.errors import UsageError
from tfcert.report import Asked, ExitCode, Judged, Measured, Record, Report, figures
from tfcert.report.formats.github import commands
from tfcert.report.formats.page import page_text
from tfcert.report.formats.sarif import Annotation
from tfcert.report.reading import read_runs
from tfcert.report.runs import SpecRun
from tfcert.verdict import Guarantee, ModelRun, Outcome, Reason, Replayed, Verdict, Work

SPEC = "prop 1\n# <script>alert(1)</script>\nproperty robust(x, y in d) { true }\nassert true\nmeasure far(x in d)\n"
HEADER = {
    "tfcert": "0",
    "spec": "a_b.prop",
    "spec_text": SPEC,
    "properties": {"robust": "property robust(x, y in d) { true }", "far": "measure far(x in d)"},
    "lines": {"robust": 3, "far": 5},
    "asked": {"robust": 4, "far": 2},
    "complete": True,
    "exit_code": 6,
    "judged": [{"text": "assert a < 1 | b", "judgement": "inconclusive", "line": 4}],
    "notes": ["a note", "drawn: somewhere.png"],
    "weights_sha256": {"clf": "ab" * 32},
}


def records() -> tuple[Record, ...]:
    loose = Reason.LOOSE.because(known="at least -1")
    replayed = Replayed((ModelRun("eager", 1, True), ModelRun("eager", 8, False)))
    verdicts = [
        Verdict(Outcome.VERIFIED, "", "crown", "crown", guarantee=Guarantee.FLOAT32_ANY_ORDER, margin=0.5, seconds=0.2),
        Verdict(Outcome.FALSIFIED, "", "pgd", "pgd", guarantee=Guarantee.REPLAYED, work=Work(gradients=3),
                replayed=replayed),
        Verdict(Outcome.UNKNOWN, loose, "crown", "crown", guarantee=Guarantee.ESTIMATE, margin=math.nan),
    ]  # fmt: skip
    asked = Asked("linf", 0.1, "unit", "all")
    found = [Record("robust", i, v, asked, None, 3, 3, correct=True) for i, v in enumerate(verdicts)]
    radii = [Measured(0.25, math.nan), Measured(math.nan, 0.5)]
    found += [Record("far", i, verdicts[0], replace(asked, eps=math.nan), r) for i, r in enumerate(radii)]
    return tuple(found)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run as it is written, with one sample of four left open by an interruption."""
    report = Report(HEADER, records(), ExitCode.INCONCLUSIVE)
    report.save_json(tmp_path / "run/result.json")
    return tmp_path / "run"


def told(folder: Path, name: str) -> str:
    return REPORTS[name].load()(read_runs(folder))


def test_what_was_written_is_read_as_the_same_report(folder):
    (run,) = read_runs(folder)
    report = run.report
    assert (run.path, run.exit_code, report.properties, report.measures) == (
        Path("a_b.prop"), ExitCode.INCONCLUSIVE, ("robust",), ("far",),
    )  # fmt: skip
    assert [r.as_json() for r in report.records] == [r.as_json() for r in records()]
    assert report.judged == (Judged("assert a < 1 | b", "inconclusive", 4),) and report.folder == folder
    assert "3 of 4" in str(report)


def test_runs_of_several_are_read_with_those_that_failed(folder, tmp_path):
    kept = json.loads((folder / "result.json").read_text())
    runs = [{"spec": "a.prop", "exit_code": 6, **kept}, {"spec": "b.prop", "exit_code": 4, "error": "no model"}]
    (tmp_path / "all.json").write_text(json.dumps({"exit_code": 4, "runs": runs}))
    first, second = read_runs(tmp_path / "all.json")
    assert len(first.report.records) == 5 and (second.report, second.error) == (None, "no model")
    page = page_text([first, second])
    assert "no model" in page and '"specification"' in page
    (tmp_path / "all.json").write_text(json.dumps({"runs": [{"spec": "a.prop", "records": []}]}))
    with pytest.raises(UsageError, match="cannot be read"):
        read_runs(tmp_path / "all.json")


def test_junit_has_a_case_for_what_is_judged_and_an_error_for_what_is_open(folder):
    suites = ElementTree.fromstring(told(folder, "junit"))
    (suite,) = suites
    assert (suites.get("tests"), suite.get("errors"), suite.get("failures")) == ("1", "1", "0")
    assert suite[0].get("name") == "assert a < 1 | b" and suite[0][0].tag == "error"


def test_junit_never_passes_a_run_that_judged_nothing_and_did_not_pass():
    suites = ElementTree.fromstring(REPORTS["junit"].load()([SpecRun(Path("a.prop"), None, "no such model")]))
    assert suites.get("errors") == "1" and suites[0][0][0].get("message") == "no such model"


def test_sarif_annotates_the_lines_of_what_is_open_and_of_each_property(folder):
    log = json.loads(told(folder, "sarif"))
    results = log["runs"][0]["results"]
    places = [
        (r["level"], r["locations"][0]["physicalLocation"].get("region", {}).get("startLine"), r["message"]["text"])
        for r in results
    ]
    assert places == [
        ("warning", 4, "inconclusive: assert a < 1 | b"),
        ("note", 3, "robust: of 3 samples 1 verified, 1 falsified, 1 unknown (float32-any-order, replayed)"),
    ]
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert [rules[r["ruleIndex"]]["id"] for r in results] == [r["ruleId"] for r in results]


def test_github_reads_the_same_at_the_same_lines(folder):
    warning, note = told(folder, "github").splitlines()
    assert re.fullmatch(r"::warning file=\S+,line=4,title=tfcert open::inconclusive: assert a < 1 \| b", warning)
    assert ",line=3,title=tfcert answers::robust: of 3 samples 1 verified" in note and note.startswith("::notice ")


def test_what_would_end_a_command_of_github_is_escaped():
    (line,) = commands([Annotation("error", "E1", "100%:\nno", "a,b:c.prop", 2, 3, 2, 9)]).splitlines()
    assert line == "::error file=a%2Cb%3Ac.prop,line=2,endLine=2,col=3,endColumn=9,title=tfcert E1::100%25:%0Ano"


def test_json_of_one_run_is_its_result_and_of_two_all_of_them(folder):
    one = json.loads(told(folder, "json"))
    assert one == json.loads((folder / "result.json").read_text())
    both = json.loads(REPORTS["json"].load()([*read_runs(folder), *read_runs(folder)]))
    assert [run["records"] for run in both["runs"]] == [one["records"]] * 2


def test_a_table_has_a_line_for_each_answer_and_nothing_where_nothing_is_known(folder):
    lines = list(csv.DictReader(io.StringIO(told(folder, "csv"))))
    assert [line["outcome"] for line in lines] == ["verified", "falsified", "unknown", "verified", "verified"]
    assert (lines[1]["work_gradients"], lines[1]["replays_agree"], lines[0]["replays_agree"]) == ("3", "False", "")
    assert (lines[3]["lower"], lines[3]["upper"], lines[2]["margin"]) == ("0.25", "", "")


def test_a_data_frame_has_the_columns_of_the_table(folder):
    pytest.importorskip("pandas", reason="pandas is not installed")
    (run,) = read_runs(folder)
    frame = run.report.to_dataframe()
    assert list(frame["outcome"]) == ["verified", "falsified", "unknown", "verified", "verified"]
    assert np.isnan(frame["margin"][2]) and frame["lower"][3] == 0.25


def test_a_comment_escapes_what_would_be_markup(folder):
    text = told(folder, "markdown")
    assert text.startswith("### ⚠️ tfcert: a\\_b.prop: inconclusive")
    assert "| `robust` | 3 of 4 | 1 | 1 | 1 | 0 | 33.3% | 66.7% | float32-any-order, replayed |" in text
    assert "| `far` | linf, unit space | refuted | 2 | 1 | - | 0.5 | 0.5 |" in text  # its median is not known


def test_a_notebook_shows_the_tables(folder):
    (run,) = read_runs(folder)
    assert "robust" in run.report._repr_html_() and "<pre" in run.report._repr_html_()


def test_the_page_holds_everything_and_runs_nothing_of_what_it_is_told(folder):
    page = told(folder, "html")
    assert "<script>alert(1)</script>" not in page and "&lt;script&gt;alert(1)" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page) and "a note" in page and "somewhere.png" not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert len(data["rows"]) == 5 and data["rows"][3][data["columns"].index("proven")] == 0.25
    assert re.search(r'said"><i>4</i><span>assert true <b class="chip open">inconclusive', page)
    assert ("<svg" in page) == figures.available()
    assert "when the model file is run in float32" in page and "by a solver&#39;s word" not in page


def test_a_page_of_ten_thousand_answers_stays_small():
    """Charts must not have a mark for each answer, nor the table a cell that is not a number or a word."""
    many = [
        replace(r, sample=i, measured=Measured(i / 1e4, i / 9e3), label=i % 10)
        for i in range(10_000)
        for r in records()[3:4]
    ]
    report = Report(HEADER, tuple(many), ExitCode.PASS, (), ("far",))
    assert len(page_text([SpecRun(Path("a.prop"), report)])) < 2_000_000


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
def test_a_browser_draws_the_answers_without_an_error(folder, tmp_path):
    (tmp_path / "page.html").write_text(told(folder, "html"))
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
        "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run(
        ["chromium", *flags, f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr and "1 to 5 of 5" in done.stdout
    assert re.search(r'<td class="bad">falsified</td>', done.stdout)


def test_the_command_line_tells_of_runs_and_exits_as_they_did(folder, tmp_path, capsys):
    assert main(["report", str(folder), "--html", str(tmp_path / "new/page.html"), "--csv", "-"]) == 6
    assert capsys.readouterr().out.startswith("specification,property") and (tmp_path / "new/page.html").is_file()
    assert main(["report", str(folder)]) == 6
    assert "inconclusive (exit code 6)" in capsys.readouterr().out
    assert main(["report", str(folder), "--csv", "-", "--junit", "-"]) == 4
    assert "only one format" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 4
    assert "there is no result" in capsys.readouterr().err


def test_a_run_that_is_going_on_is_told_from_its_journal(folder, capsys):
    lines = [{"header": {k: v for k, v in HEADER.items() if k not in ("complete", "exit_code", "judged")}}]
    lines += [{"record": r.as_json()} for r in records()[:2]]
    text = "\n".join(map(json.dumps, lines)) + '\n{"record": {"prop'  # the last line is being written
    (folder / "journal.jsonl").write_text(text)
    (folder / "result.json").unlink()
    assert main(["report", str(folder), "--markdown", "-"]) == 2
    assert "| `robust` | 2 of 4 | 1 | 1 | 0 | 0 |" in capsys.readouterr().out


def test_an_older_result_is_of_another_run(folder, capsys):
    (folder / "journal.jsonl").write_text(json.dumps({"header": HEADER | {"asked": {"robust": 9}}}) + "\n")
    os.utime(folder / "result.json", (1, 1))
    assert main(["report", str(folder), "--markdown", "-"]) == 6
    assert "| `robust` | 0 of 9 |" in capsys.readouterr().out


def test_a_page_of_too_many_answers_lists_those_that_are_refuted_or_open(folder, monkeypatch):
    """Catches pages of a gigabyte, and open answers that are left out of them."""
    monkeypatch.setattr("tfcert.report.formats.page.MOST_ANSWERS", 2)
    (run,) = read_runs(folder)
    page = page_text([run])
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert sorted(row[data["columns"].index("outcome")] for row in data["rows"]) == ["falsified", "unknown"]
    assert "2 answers are listed" in page and "3 more are in" in page
    assert told(folder, "csv").count("\n") == 6


def test_the_page_of_a_run_is_kept_up_to_date_until_it_ends(folder, capsys, monkeypatch):
    kept = (folder / "result.json").read_text()
    lines = [{"header": {k: v for k, v in HEADER.items() if k not in ("complete", "exit_code", "judged")}}]
    lines += [{"record": r.as_json()} for r in records()[:2]]
    (folder / "journal.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (folder / "result.json").unlink()

    def sleep(seconds: float) -> None:
        assert 'http-equiv="refresh" content="7"' in (folder / "report.html").read_text()
        (folder / "result.json").write_text(kept)

    monkeypatch.setattr("time.sleep", sleep)
    assert main(["watch", str(folder), "--every", "7"]) == 6
    assert "refresh" not in (folder / "report.html").read_text()
    assert [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "2 answers, the run is going on", "5 answers",
    ]  # fmt: skip
