"""Names of videos, manifests and lists of prompts: what is there, what is missing, what is left over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.questions.folder_names import PROMPT_SETS, NamedVideo, compare, made_from, named_videos, read_asked
from tests.support.paths import DATA

EXCERPT = DATA / "vbench" / "full_info_excerpt.json"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_a_name_is_a_prompt_and_a_number(tmp_path: Path) -> None:
    touch(tmp_path, "a ball-0.mp4", "well-known man, close-up-12.mp4", "notes.txt")
    videos, faults = named_videos(tmp_path)
    assert [(video.prompt, video.index) for video in videos] == [("a ball", 0), ("well-known man, close-up", 12)]
    assert not faults


def test_a_manifest_tells_prompts_that_no_name_can_hold(tmp_path: Path) -> None:
    long = "either/or " * 50
    touch(tmp_path, "either or 12ab-1.mp4", "a ball-0.mp4")
    made = {"videos": {"either or 12ab-1.mp4": {"prompt": long, "index": 1}, "gone-0.mp4": {"prompt": "p", "index": 0}}}
    (tmp_path / "manifest.json").write_text(json.dumps({"made_from": {}, **made}))
    videos, faults = named_videos(tmp_path)
    assert [(video.prompt, video.index) for video in videos] == [("a ball", 0), (long, 1)]
    assert list(faults) == ["gone-0.mp4"]
    (tmp_path / "manifest.json").write_text(json.dumps({"either or 12ab-1.mp4": long}))
    assert [(video.prompt, video.index) for video in named_videos(tmp_path)[0]] == [("a ball", 0), (long, 1)]


def test_a_manifest_says_what_made_the_videos_that_it_lists(tmp_path: Path) -> None:
    assert made_from(tmp_path, ["a.mp4"]) is None, "there is no manifest"
    made = {"policy": {"path": "base"}}
    (tmp_path / "manifest.json").write_text(json.dumps({"made_from": made, "videos": {"a.mp4": {}, "b.mp4": {}}}))
    assert made_from(tmp_path, ["a.mp4"]) == made
    assert made_from(tmp_path, ["a.mp4", "other.mp4"]) is None, "a video of any model"
    (tmp_path / "manifest.json").write_text(json.dumps({"a.mp4": "a ball"}))
    assert made_from(tmp_path, ["a.mp4"]) is None, "VBench's own form"


def test_videos_without_a_number_take_the_free_ones_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "first.mp4", "fourth.mp4", "second.mp4", "third-1.mp4")
    prompts = {"first.mp4": "a ball", "second.mp4": "a ball", "third-1.mp4": "a ball", "fourth.mp4": "a lamp"}
    (tmp_path / "manifest.json").write_text(json.dumps(prompts))
    videos, faults = named_videos(tmp_path)
    assert {video.path.stem: video.index for video in videos} == {"first": 0, "second": 2, "third-1": 1, "fourth": 0}
    assert not faults


def test_every_video_of_a_folder_counts_or_is_a_fault(tmp_path: Path) -> None:
    touch(tmp_path, "a-0.MP4", "b-0.mp4", "._b-0.mp4", "c-0.webm", "d-0.gif", "notes.txt")
    (tmp_path / "e-0.mp4").mkdir()
    videos, faults = named_videos(tmp_path)
    assert [(video.path.name, video.prompt) for video in videos] == [("a-0.MP4", "a"), ("b-0.mp4", "b")]
    assert faults == {
        "c-0.webm": "is no .mp4; convert it",
        "d-0.gif": "is no .mp4; convert it",
        "e-0.mp4": "is not a file",
    }


def test_what_the_writer_of_samples_writes_is_read(tmp_path: Path) -> None:
    from callbacks.writers.video_folder import video_name
    from datamodules.stream.predict_outputs import VideoRequest

    requests = [VideoRequest("k", prompt, index) for prompt in ("a ball", "x" * 400) for index in range(2)]
    names = {video_name(request): {"prompt": request.prompt, "index": request.index} for request in requests}
    touch(tmp_path, *names)
    (tmp_path / "manifest.json").write_text(json.dumps({"made_from": {}, "videos": names}))
    videos, faults = named_videos(tmp_path)
    assert {(video.prompt, video.index) for video in videos} == {
        (request.prompt, request.index) for request in requests
    }
    assert not faults


def test_faults_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        named_videos(tmp_path / "none")
    with pytest.raises(ValueError, match=r"holds no \.mp4"):
        named_videos(tmp_path)
    touch(tmp_path, "a ball.mp4", "a ball-0.mp4", "a ball-00.mp4")
    with pytest.raises(ValueError, match=r"a ball-0\.mp4 and a ball-00\.mp4"):
        named_videos(tmp_path)
    (tmp_path / "a ball-00.mp4").unlink()
    assert "is not called PROMPT-NUMBER.mp4" in named_videos(tmp_path)[1]["a ball.mp4"]
    (tmp_path / "manifest.json").write_text('{"videos": {"a ball.mp4": 3}}')
    with pytest.raises(ValueError, match=r"manifest\.json: is not of the form"):
        named_videos(tmp_path)


def test_vbench_says_what_a_prompt_is_scored_on() -> None:
    asked = read_asked(EXCERPT)
    assert len(asked) == 6
    both = asked["The bund Shanghai, oil painting"]
    assert both.dimensions == {"appearance_style", "overall_consistency", "aesthetic_quality", "imaging_quality"}
    assert [entry["dimension"][0] for entry in both.entries] == ["appearance_style", "overall_consistency"]
    assert asked["In a still frame, a stop sign"].dimensions == {"temporal_flickering"}


@pytest.mark.parametrize(("name", "count"), PROMPT_SETS.items())
def test_the_count_of_a_published_list_is_checked(name: str, count: int, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"prompt {number}" for number in range(count)))
    assert len(read_asked(file, name)) == count  # type: ignore[arg-type]
    file.write_text("\n".join(f"prompt {number}" for number in range(count - 1)))
    with pytest.raises(ValueError, match=f"holds {count - 1} prompts, {name} has {count}"):
        read_asked(file, name)  # type: ignore[arg-type]


def test_entries_are_counted_as_published_and_not_their_prompts(tmp_path: Path) -> None:
    entries = [{"prompt_en": f"p{number % 944}", "dimension": ["scene"]} for number in range(946)]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    assert len(read_asked(tmp_path / "list.json", "vbench")) == 944


def test_a_list_of_another_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    with pytest.raises(ValueError, match="no such file"):
        read_asked(file)
    file.write_text("[")
    with pytest.raises(ValueError, match="is not JSON"):
        read_asked(file)
    file.write_text('[{"prompt_en": "p", "dimension": []}, {"prompt": "p"}, 3]')
    with pytest.raises(ValueError, match="these are not: 1, 2"):
        read_asked(file)


def test_missing_and_left_over_videos_are_found(tmp_path: Path) -> None:
    videos = [
        NamedVideo(Path(f"{prompt}-{index}.mp4"), prompt, index) for prompt, index in (("a", 0), ("a", 7), ("c", 0))
    ]
    asked = {"a": read_asked(EXCERPT)["a person"], "b": read_asked(EXCERPT)["a person"]}
    missing, extra = compare(videos, asked, 2)
    assert list(missing) == ["video 1 of 'a'", "video 0 of 'b'", "video 1 of 'b'"]
    assert list(extra) == ["c-0.mp4", "a-7.mp4"]
    missing, extra = compare(videos, asked, None)
    assert (list(missing), list(extra)) == (["a video of 'b'"], ["c-0.mp4"])
