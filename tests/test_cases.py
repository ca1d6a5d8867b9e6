"""Every small input that once failed is read by a test."""

from __future__ import annotations

import re

from tests.support.paths import DATA, TESTS


def test_every_case_is_named_in_a_test() -> None:
    cases = [path for path in (DATA / "cases").rglob("*") if path.is_file()]
    assert len(cases) >= 15
    texts = [path.read_text() for path in TESTS.rglob("*.py") if path.name != "test_cases.py"]
    # By the file's name, or as a text of its own where videos are listed without their ending.
    unread = [
        case.name
        for case in cases
        if not any(re.search(rf'{re.escape(case.name)}|"{re.escape(case.stem)}"', text) for text in texts)
    ]
    assert unread == []
