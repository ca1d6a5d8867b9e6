"""The Dockerfile as far as it can be tried without Docker: what it copies, installs and starts is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[tuple[str, str]]:
    """(keyword, rest) of the Dockerfile, lines that go on joined as Docker joins them, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n", "", "\n".join(lines))
    split = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(keyword, rest) for keyword, rest in split]


def of(keyword: str) -> list[str]:
    return [rest for name, rest in instructions() if name == keyword]


def test_every_instruction_is_one_of_dockers() -> None:
    known = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    assert {keyword for keyword, _ in instructions()} == known
    assert instructions()[0][0] == "FROM"


def test_the_base_is_a_python_that_the_project_supports_from_dockers_default_registry() -> None:
    (base,) = of("FROM")
    assert re.fullmatch(r"python:3\.\d+-slim", base)
    assert tuple(map(int, base[7:-5].split("."))) >= (3, 11)
    assert PROJECT["requires-python"] == ">=3.11"


def test_what_is_copied_and_named_is_there() -> None:
    sources = [word for rest in of("COPY") for word in rest.split()[:-1] if not word.startswith("--")]
    assert sources == ["pyproject.toml", "constraints.txt", "."]
    assert all((ROOT / source).exists() for source in sources)
    installs = [rest for rest in of("RUN") if "pip install" in rest]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in rest for rest in installs)


def test_the_shell_reads_every_command() -> None:
    for command in of("RUN"):
        done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def test_the_packages_of_the_first_layer_are_those_of_the_project(tmp_path: Path) -> None:
    """The part of the command before pip is run as the shell has it."""
    (command,) = [rest for rest in of("RUN") if "tomllib" in rest]
    listing, arrow, _ = command.partition("> /tmp/requirements.txt")
    assert arrow
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    script = listing.replace("python ", f"{sys.executable} ", 1)
    listed = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    extras = [name for extra in ("wandb", "s3", "parquet") for name in PROJECT["optional-dependencies"][extra]]
    assert listed.splitlines() == [*PROJECT["dependencies"], *extras]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").open()}
    names = {re.split(r"[^A-Za-z0-9_.-]", name)[0].lower().replace("_", "-") for name in listed.splitlines()}
    assert names <= pinned


def test_it_starts_the_command_as_an_ordinary_user() -> None:
    assert of("USER") == ["vidpref"]
    assert of("ENTRYPOINT") == ['["vidpref"]']
    assert "vidpref" in PROJECT["scripts"]
    after = [keyword for keyword, _ in instructions()]
    assert "RUN" not in after[after.index("USER") :], "what is installed is root's"


def test_nothing_that_is_committed_is_left_out_of_the_image() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(tracked.splitlines()) > 500
    assert [name for name in tracked.splitlines() if ignored(name, patterns)] == []
    for made in (
        "runs/a/b",
        ".venv/bin/python",
        "benchmarks/__pycache__/a.pyc",
        "data/train-000000.tar",
        "a/last.ckpt",
    ):
        assert ignored(made, patterns), made


def ignored(name: str, patterns: list[str]) -> bool:
    """Whether the last pattern that fits a path, or a folder above it, leaves it out."""
    left_out = False
    parts = name.split("/")
    folders = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    for pattern in patterns:
        form = pattern.removeprefix("!")
        forms = (form, form.removeprefix("**/")) if form.startswith("**/") else (form,)
        if any(folder.count("/") >= form.count("/") - 1 and fnmatch(folder, f) for folder in folders for f in forms):
            left_out = not pattern.startswith("!")
    return left_out
