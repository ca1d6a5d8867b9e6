"""`pytest -m gpu`, on the files that have such tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.row import Outcome, Setting
from benchmarks.toy.commands import ROOT

_MARK = "pytest.mark.gpu"


def measure(setting: Setting) -> Outcome:
    """Run the tests; on a GPU none may be skipped."""
    report = setting.scratch / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([*command, *map(str, marked_files())], cwd=ROOT, check=False)
    return outcome(report, setting.dry_run)


def marked_files(root: Path = ROOT) -> list[Path]:
    """The files with marked tests: to collect all others would take as long as these tests do."""
    files = sorted((root / "tests").rglob("test_*.py"))
    return [file for file in files if _MARK in file.read_text(encoding="utf-8")]


def outcome(report: Path, dry_run: bool) -> Outcome:
    """What a JUnit report says.

    Args:
        report: the file.
        dry_run: skipped tests are no fault.
    """
    # Written by pytest a moment ago.
    suite = ElementTree.parse(report).getroot().find("testsuite")  # noqa: S314
    assert suite is not None, "pytest writes one"
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    fault = ""
    if counts["failures"] or counts["errors"]:
        bad = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
        bad += [case.get("name") for case in suite.iter("testcase") if case.find("error") is not None]
        fault = f"failed: {', '.join(map(str, bad))}"
    elif not counts["tests"]:
        fault = "there are no such tests"
    elif not dry_run and counts["skipped"]:
        fault = f"{counts['skipped']} skipped, though there is a GPU"
    return Outcome(f"{passed} passed, {counts['skipped']} skipped", counts | {"passed": passed}, fault)
