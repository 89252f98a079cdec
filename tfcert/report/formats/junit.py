"""What is judged as a JUnit report, which servers of continuous integration show."""

from __future__ import annotations

from collections.abc import Sequence

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from tfcert.errors import ExitCode
from tfcert.report.runs import SpecRun


def junit_text(runs: Sequence[SpecRun]) -> str:
    """A suite for each specification, a case for each assertion and property that is judged.

    What fails is a failure; what is inconclusive, or could not be run, is an error: neither passes.
    """
    document = JUnitXml("tfcert")
    for run in runs:
        suite = TestSuite(str(run.path))
        for judged in run.judged:
            case = TestCase(judged.text, str(run.path))
            if judged.judgement != "pass":
                kind = Failure if judged.judgement == "fail" else Error
                case.result = [kind(f"{judged.judgement}: {judged.text}")]
            suite.add_testcase(case)
        if not run.judged:
            case = TestCase("run", str(run.path))
            if run.exit_code is not ExitCode.PASS:
                case.result = [Error(run.error or run.outcome)]
            suite.add_testcase(case)
        document.add_testsuite(suite)
    document.update_statistics()
    return f"{document.tostring().decode()}\n"
