"""A real Chromium, where there is one, for the tests of pages."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: `pytestmark` of the browser tests.
IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="there is no Chromium on this machine (.ci/browser installs it in the CI)"
    ),
]
