"""Sampled videos as files: the names that benchmarks look for, the manifest, and continuing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from callbacks.writers.video_folder import VideoFolderWriter, video_name
from datamodules.stream.predict_outputs import VideoRequest
from tests.support.predict_fakes import Requests, VideoMaker, predict

LONG = "a very long story " * 20
PROMPTS = ["a dog, running?", "one/two", LONG, LONG + "with another end", "zwölf Boxkämpfer"]
REQUESTS = [VideoRequest(f"{n:06d}-{i}", prompt, i) for n, prompt in enumerate(PROMPTS) for i in range(2)]


def run(folder: Path, module: VideoMaker | None = None, requests: list[VideoRequest] = REQUESTS) -> VideoMaker:
    module = module or VideoMaker()
    predict(VideoFolderWriter(str(folder / "videos")), module, Requests(requests))
    return module


def manifest(folder: Path) -> dict[str, dict[str, object]]:
    return json.loads((folder / "videos/manifest.json").read_text())["videos"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("prompt", ["a dog, running?", 'he said: "no" & left', "zwölf", "x" * 249])
def test_a_prompt_that_can_be_a_file_name_is_one(prompt: str) -> None:
    assert video_name(VideoRequest("k", prompt, 0)) == f"{prompt}-0.mp4"


@pytest.mark.parametrize("prompt", ["one/two", "line\nbreak", ".hidden", "x" * 250, "ö" * 125, "\0", "///"])
def test_another_prompt_gets_a_name_that_a_file_can_have(prompt: str, tmp_path: Path) -> None:
    name = video_name(VideoRequest("k", prompt, 12))
    assert name.endswith("-12.mp4")
    assert name != f"{prompt}-12.mp4"
    (tmp_path / name).write_bytes(b"")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_manifest_tells_every_files_prompt(tmp_path: Path) -> None:
    run(tmp_path)
    told = manifest(tmp_path)
    assert {(one["prompt"], one["index"]) for one in told.values()} == {(one.prompt, one.index) for one in REQUESTS}
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == sorted([*told, "manifest.json"])
    by_name = {video_name(one): one for one in REQUESTS}
    for name, entry in told.items():
        assert (tmp_path / "videos" / name).read_bytes() == by_name[name].key.encode()
        assert entry["prompt"] == by_name[name].prompt


def test_an_interrupted_run_goes_on_and_makes_nothing_twice(tmp_path: Path) -> None:
    first = run(tmp_path, VideoMaker(fails_at=REQUESTS[5].key))
    assert len(manifest(tmp_path)) == len(REQUESTS), "the manifest is there from the start"
    (tmp_path / "videos/.half.tmp").write_bytes(b"half")
    second = run(tmp_path)
    assert first.made + second.made == [one.key for one in REQUESTS]
    assert not (tmp_path / "videos/.half.tmp").exists()
    assert run(tmp_path).made == []


def test_prompts_can_be_added(tmp_path: Path) -> None:
    run(tmp_path, requests=REQUESTS[2:])
    # The numbers of the others have moved, their videos stay.
    moved = [VideoRequest(f"x{one.key}", one.prompt, one.index) for one in REQUESTS]
    assert run(tmp_path, requests=moved).made == [one.key for one in moved[:2]]
    assert len(manifest(tmp_path)) == len(REQUESTS)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    run(tmp_path, requests=REQUESTS[:2])
    with pytest.raises(ValueError, match=r"videos was made with other settings: seed was 0, is 1; .*another `folder`"):
        run(tmp_path, VideoMaker(seed=1))
    assert len(manifest(tmp_path)) == 2


def test_one_prompt_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same prompt and index"):
        run(tmp_path, requests=[REQUESTS[0], VideoRequest("other", PROMPTS[0], 0)])
