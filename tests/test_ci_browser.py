"""`.ci/browser`: Debian's Chromium on a machine of the CI, and nothing installed anywhere else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

UPDATE, INSTALL = "update --quiet", "install --quiet --yes --no-install-recommends chromium"
#: `env` and `bash` are the machine's own; what else the script may call is here or not there at all.
BASH, ENV = "/bin/bash", "/usr/bin/env"


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!{BASH}\n{body}\n")
    (folder / name).chmod(0o755)


def run(folder: Path, *, user: int = 0, ci: str = "true", **programs: str) -> tuple[list[str], str]:
    """What apt-get and sudo were called with, and what was printed; on a machine with no other programs."""
    (folder / "env").symlink_to(ENV)
    calls = folder / "calls"
    program(folder, "id", f"echo {user}")
    for name, body in programs.items():
        program(folder, name.replace("_", "-"), body.format(calls=calls))
    environment = {"PATH": str(folder), **({"CI": ci} if ci else {})}
    done = subprocess.run([BASH, str(ROOT / ".ci/browser")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, "the CI goes on without a browser, and its tests say that they were skipped"
    assert done.stderr == ""
    return calls.read_text().splitlines() if calls.exists() else [], done.stdout


APT = 'echo "apt-get $* ${{DEBIAN_FRONTEND:-}}" >> {calls}'
SUDO = 'echo "sudo $*" >> {calls}; "$@"'


@pytest.mark.parametrize("ci", ["", "false"])
def test_a_persons_machine_is_never_touched(tmp_path: Path, ci: str) -> None:
    assert run(tmp_path, ci=ci, apt_get=APT) == ([], "")


@pytest.mark.parametrize("name", ["chromium", "chromium_browser", "google_chrome"])
def test_a_browser_that_is_there_is_used(tmp_path: Path, name: str) -> None:
    assert run(tmp_path, apt_get=APT, **{name: "exit 1"}) == ([], "")


def test_root_installs_debians(tmp_path: Path) -> None:
    assert run(tmp_path, apt_get=APT)[0] == [f"apt-get {UPDATE} ", f"apt-get {INSTALL} noninteractive"]


def test_another_user_installs_through_sudo(tmp_path: Path) -> None:
    calls, _ = run(tmp_path, user=1000, apt_get=APT, sudo=SUDO)
    assert calls == [
        f"sudo apt-get {UPDATE}",
        f"apt-get {UPDATE} ",
        f"sudo env DEBIAN_FRONTEND=noninteractive apt-get {INSTALL}",
        f"apt-get {INSTALL} noninteractive",
    ]


def test_where_nothing_can_be_installed_it_says_so(tmp_path: Path) -> None:
    for name in ("other", "user", "failing"):
        (tmp_path / name).mkdir()
    assert run(tmp_path / "other") == ([], "no apt-get: the browser tests will be skipped\n")
    assert run(tmp_path / "user", user=1000, apt_get=APT) == ([], "not root: the browser tests will be skipped\n")
    calls, printed = run(tmp_path / "failing", apt_get=f"{APT}; exit 100")
    assert calls == [f"apt-get {UPDATE} "], "what cannot be updated is not installed from"
    assert printed == "apt-get could not install chromium: the browser tests will be skipped\n"


def test_the_ci_calls_it_before_the_tests() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines.index("make install") < lines.index(".ci/browser") < lines.index("make test-slow")
    assert os.access(ROOT / ".ci/browser", os.X_OK)
