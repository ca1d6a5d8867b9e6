"""`vidpref run`: what is refused before anything runs, what a dry run says, and which stages are selected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vidpref
from callbacks.cli.recipes.recipe import read_recipe
from callbacks.cli.recipes.records import Record, new_record
from callbacks.cli.verbs.command_check import check_command
from tests.support.paths import ROOT

RECIPE = """
output: out
values: {number: 3}
stages:
  videos:
    run: prepare toy-videos out/train --num_videos ${number}
    writes: out/train.index.json
  count:
    run: python -m tests.support.recipe_stage out/count
    reads: out/train.index.json
    writes: out/count
  say:
    run: python -m tests.support.recipe_stage out/said
    after: count
"""


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("recipe.yaml").write_text(RECIPE)
    return Path("recipe.yaml")


def finish(name: str) -> None:
    """As if a stage had run."""
    stage = next(one for one in read_recipe(Path("recipe.yaml"), ["prepare"]).stages if one.name == name)
    for path in stage.outputs(Path()):
        path.parent.mkdir(exist_ok=True)
        path.write_text("made")
    new_record(stage, Path(), None).ended_now(2.0, finished=True).write(Path("out/stages") / f"{name}.json")


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert vidpref.main(["run", "recipe.yaml", *arguments]) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def test_a_dry_run_prints_commands_and_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    finish("videos")
    finish("count")
    lines = said(capsys, "--dry-run").splitlines()
    assert lines == [
        "videos: done",
        "    vidpref prepare toy-videos out/train --num_videos 3",
        "count: done",
        "    python -m tests.support.recipe_stage out/count",
        "say: to run: not run yet",
        "    python -m tests.support.recipe_stage out/said",
    ]
    lines = said(capsys, "--dry-run", "--set", "number=4").splitlines()
    assert lines[:4:2] == [
        "videos: to run: its command has changed (--num_videos 3 -> 4)",
        "count: done, unless videos changes what it reads",
    ]
    assert not Path("out/logs").exists()


@pytest.mark.parametrize(
    ("flags", "names"),
    [([], ["videos", "count", "say"]), (["--from", "count"], ["count", "say"]), (["--only", "count"], ["count"])],
)
def test_stages_are_selected_by_name(capsys: pytest.CaptureFixture[str], flags: list[str], names: list[str]) -> None:
    finish("videos")
    lines = said(capsys, "--dry-run", *flags).splitlines()
    assert [line.partition(":")[0] for line in lines[::2]] == names


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--from", "fit"], "error: --from fit: no such stage; the stages are videos, count, say"),
        (["--only", "fit"], "error: --only fit: no such stage"),
        (
            ["--only", "count"],
            "error: stage 'count' reads out/train.index.json, which is not there; run stage",
        ),
        (["--set", "number"], "error: --set number: give NAME=VALUE"),
        (["--set", "numbers=1"], "error: recipe.yaml: there is no value 'numbers' to set; the values are number"),
        (["--set", "number=many"], "error: stage 'videos': "),
        (["--jobs", "0"], "error: jobs is 0; give 1 or more"),
    ],
)
def test_faults_are_named_before_anything_runs(
    capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert said(capsys, *flags, status=1).startswith(message)
    assert not Path("out").exists()


def test_a_fault_of_a_command_is_named_with_its_stage(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--set", "number=many", status=1)
    assert "num_videos" in text
    assert "(vidpref prepare toy-videos out/train --num_videos many)" in text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("prepare toy-video out", "unknown source 'toy-video'; the sources are toy, vistadpo"),
        ("prepare toy-videos out --numbers 3", "numbers"),
        ("python -m benchmarks.toy.nothing", "there is no module benchmarks.toy.nothing"),
        ("python -m nothing.at.all", "there is no module nothing.at.all"),
        ("label", "pairs"),
        ("ask mine.mp4 why", "--policy"),
        ("export runs/x --checkpoints y", "checkpoints"),
    ],
)
def test_commands_are_read_by_their_own_parsers(command: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_command(command.split())


@pytest.mark.parametrize(
    "command",
    [
        "prepare toy-videos out --num-videos 3",
        "prepare videos videos out --skip-bad",
        "python -m benchmarks.report a b --html x.html",
        "label pairs.index.json --output labels.csv",
        "ask --policy x mine.mp4 why",
        "export runs/x --checkpoint y",
    ],
)
def test_commands_that_are_right_pass(command: str) -> None:
    check_command(command.split())


@pytest.mark.slow  # the trainer's parser takes seconds
def test_the_trainers_verbs_are_parsed_with_their_configurations() -> None:
    fit = ["--config", str(ROOT / "configs/toy/wan_dense.yaml")]
    check_command(["fit", *fit, "--model.beta", "250"])
    check_command(["check", "fit", *fit])
    check_command(["check", *fit])
    for command in (["fit", *fit, "--model.betas", "1"], ["check", *fit, "--model.betas", "1"]):
        with pytest.raises(ValueError, match=r"^unknown key 'model.betas' .*; did you mean 'beta'"):
            check_command(command)
    with pytest.raises(ValueError, match=r"none\.yaml"):
        check_command(["predict", "--config", "none.yaml"])


def test_a_command_whose_configuration_is_not_made_yet_is_read_later(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipe.yaml").write_text(
        "output: out\nstages:\n"
        "  make: {run: python -m tests.support.recipe_stage made.yaml, writes: made.yaml}\n"
        "  use: {run: prepare toy-videos out/train --config made.yaml --nothing 1}\n"
    )
    assert "use: to run: not run yet" in said(capsys, "--dry-run")


def test_a_record_of_this_version_has_these_fields() -> None:
    """Records outlive versions: a new field needs a default, or every finished stage is run again."""
    finish("videos")
    path = Path("out/stages/videos.json")
    content = json.loads(path.read_text())
    assert set(content) == {"command", "reads", "finished", "seconds", "ended"}
    assert Record.read(path) is not None
