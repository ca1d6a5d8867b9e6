"""Flags for any callback or filter of a list, by its class name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callbacks.cli.parse_line import ParseLine
from callbacks.cli.verbs.prepare import prepare_parser
from datamodules.prepare.videos import prepare_videos
from tests.support.command_fakes import exit_status
from tests.support.paths import ROOT

CONFIG = ROOT / "configs/vista_dpo/video_llava_lora.yaml"


def callbacks(*flags: str) -> list[tuple[str, dict[str, Any]]]:
    """Class names and settings, in order."""
    config = ParseLine(["fit", "--config", str(CONFIG), *flags]).config.fit
    return [
        (item.class_path.rpartition(".")[2], item.get("init_args").as_dict() if item.get("init_args") else {})
        for item in config.trainer.callbacks
    ]


def settings(name: str, *flags: str) -> dict[str, Any]:
    (settings,) = [given for other, given in callbacks(*flags) if other == name]
    return settings


def test_a_callback_is_addressed_by_its_name_wherever_it_is_in_the_list() -> None:
    before = callbacks()
    after = callbacks("--trainer.callbacks.ReferenceModel.cache", "X", "--trainer.callbacks.SampleTable.height=64")
    assert [name for name, _ in after] == [name for name, _ in before]
    assert dict(after)["ReferenceModel"] == {**dict(before)["ReferenceModel"], "cache": "X"}
    assert dict(after)["SampleTable"] == {**dict(before)["SampleTable"], "height": 64}
    assert dict(after)["AdapterExport"] == dict(before)["AdapterExport"]


def test_the_last_callback_is_addressed_without_a_name_as_before() -> None:
    flags = ("--trainer.callbacks.every_n_steps", "5", "--trainer.callbacks.ReferenceModel.cache", "X")
    assert settings("AdapterExport", *flags)["every_n_steps"] == 5
    assert settings("AdapterExport", *reversed_pairs(flags))["every_n_steps"] == 5
    assert settings("ReferenceModel", *flags)["cache"] == "X"


def reversed_pairs(flags: tuple[str, ...]) -> tuple[str, ...]:
    return (*flags[2:], *flags[:2])


def test_a_callback_that_a_flag_adds_is_addressed_by_the_next_one() -> None:
    given = settings(
        "BenchmarkOverlap",
        "--trainer.callbacks+=BenchmarkOverlap",
        "--trainer.callbacks.BenchmarkOverlap.questions=q.json",
    )
    assert str(given["questions"]) == "q.json"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--trainer.callbacks.LossWeights.a=1"],
            "'trainer.callbacks': there is no LossWeights in this list; there are: ReferenceModel, PreferenceMetrics, "
            "SampleTable, AdapterExport",
        ),
        (
            ["--trainer.callbacks+=SampleTable", "--trainer.callbacks.SampleTable.height=64"],
            "SampleTable occurs 2 times in this list",
        ),
        (["--trainer.callbacks.ReferenceModel.cahce=X"], "did you mean 'cache'?"),
    ],
)
def test_a_name_that_says_nothing_is_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(lambda: callbacks(*flags)) == 2
    assert message in capsys.readouterr().err


def test_filters_of_prepare_videos_are_addressed_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = prepare_parser("videos", prepare_videos)
    config = ["--config", str(ROOT / "configs/dense_dpo/prepare_videos.yaml")]
    given = parser.parse_args([*config, "folder", "output", "--filters.Motion.least", "0.01"])
    least = {item.class_path.rpartition(".")[2]: item.init_args.get("least") for item in given["filters"]}
    assert (least["Motion"], least["Resolution"], least["Duration"]) == (0.01, 480, 5)
    assert exit_status(lambda: parser.parse_args([*config, "--filters.Sound.least", "0.01"])) == 2
    names = "Duration, Resolution, KeptArea, Motion"
    assert f"there is no Sound in this list; there are: {names}" in capsys.readouterr().err
