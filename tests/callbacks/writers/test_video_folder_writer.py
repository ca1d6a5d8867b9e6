"""Sampled videos as files: the names that benchmarks look for, the manifest, and continuing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from callbacks.writers.video_folder import VideoFolderWriter, video_name
from datamodules.stream.predict_outputs import VideoRequest
from tests.support.other_writer import other_writer
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
    entries = manifest(tmp_path)
    assert {(entry["prompt"], entry["index"]) for entry in entries.values()} == {
        (request.prompt, request.index) for request in REQUESTS
    }
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == sorted([*entries, "manifest.json"])
    by_name = {video_name(request): request for request in REQUESTS}
    for name, entry in entries.items():
        assert (tmp_path / "videos" / name).read_bytes() == by_name[name].key.encode()
        assert entry["prompt"] == by_name[name].prompt


def test_an_interrupted_run_goes_on_and_makes_nothing_twice(tmp_path: Path) -> None:
    first = run(tmp_path, VideoMaker(fails_at=REQUESTS[5].key))
    assert len(manifest(tmp_path)) == len(REQUESTS), "the manifest is there from the start"
    half, other = tmp_path / f"videos/.{'0a' * 16}.tmp", tmp_path / "videos/.half.tmp"
    half.write_bytes(b"half")
    other.write_bytes(b"somebody else's")
    second = run(tmp_path)
    assert first.made + second.made == [request.key for request in REQUESTS]
    assert not half.exists()
    assert other.read_bytes() == b"somebody else's"
    assert run(tmp_path).made == []


def test_a_folder_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    writer = VideoFolderWriter(str(tmp_path / "v[ie]deos"))
    predict(writer, VideoMaker(fails_at=REQUESTS[5].key), Requests(REQUESTS))
    again = VideoMaker()
    predict(VideoFolderWriter(str(tmp_path / "v[ie]deos")), again, Requests(REQUESTS))
    assert again.made == [request.key for request in REQUESTS[4:]]


def test_prompts_can_be_added(tmp_path: Path) -> None:
    run(tmp_path, requests=REQUESTS[2:])
    # The numbers of the others have moved, their videos stay.
    moved = [VideoRequest(f"x{request.key}", request.prompt, request.index) for request in REQUESTS]
    assert run(tmp_path, requests=moved).made == [request.key for request in moved[:2]]
    assert len(manifest(tmp_path)) == len(REQUESTS)


def test_a_folder_that_another_run_writes_is_refused(tmp_path: Path) -> None:
    with other_writer(tmp_path / "videos", is_folder=True), pytest.raises(OSError, match="is being written by process"):
        run(tmp_path)
    assert run(tmp_path).made == [request.key for request in REQUESTS]
    assert not (tmp_path / "videos/.lock").exists()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    run(tmp_path, requests=REQUESTS[:2])
    with pytest.raises(ValueError, match=r"videos was made with other settings: seed was 0, is 1; .*another `folder`"):
        run(tmp_path, VideoMaker(seed=1))
    assert len(manifest(tmp_path)) == 2


class OfFiles(VideoMaker):
    """Made with a policy of which a file is known by its content, or, in an earlier release, by its name alone."""

    def __init__(self, content: str | None) -> None:
        super().__init__()
        self.content = content

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        return {"policy": {"path": "base", **({"contents": {"path": self.content}} if self.content else {})}}


def test_videos_of_replaced_weights_are_refused(tmp_path: Path) -> None:
    run(tmp_path, OfFiles("one"), REQUESTS[:2])
    with pytest.raises(ValueError, match=r"the files that policy\.path names have been replaced"):
        run(tmp_path, OfFiles("two"))
    assert len(manifest(tmp_path)) == 2


def test_a_folder_of_an_earlier_release_is_continued_with_a_warning(tmp_path: Path) -> None:
    run(tmp_path, OfFiles(None), REQUESTS[:2])
    with pytest.warns(UserWarning, match=r"did not record the content of the files in policy\.path"):
        assert run(tmp_path, OfFiles("one")).made == [request.key for request in REQUESTS[2:]]
    assert len(manifest(tmp_path)) == len(REQUESTS), "what was added is in the manifest too"


def test_one_prompt_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same prompt and index"):
        run(tmp_path, requests=[REQUESTS[0], VideoRequest("other", PROMPTS[0], 0)])
