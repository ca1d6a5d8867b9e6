import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from datamodules.questions.base import Question, QuestionBatches, QuestionLoader
from datamodules.questions.video_hallucer import PROMPT, VideoHallucerQuestions
from datamodules.questions.video_hallucer_files import find_annotations, read_annotation
from datamodules.video.codec import encode_mp4
from tests.support.paths import DATA

PUBLISHED = DATA / "videohallucer"


def write_pairs(folder: Path, subset: str, videos: list[str]) -> None:
    pairs = [
        {
            "basic": {"video": video, "question": f"Is {subset} {row} there?", "answer": "yes"},
            "hallucination": {"video": video, "question": f"Is {subset} {row} absent?", "answer": "no"},
        }
        for row, video in enumerate(videos)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{subset}.json").write_text(json.dumps(pairs))


def write_video(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    still = np.full((12, 16, 24, 3), value, np.uint8)
    path.write_bytes(encode_mp4(still, fps=8.0))


@pytest.fixture
def small(tmp_path: Path) -> dict[str, str]:
    """Five pairs in two subsets over three videos, one in the folder itself and two where the published layout has."""
    write_pairs(tmp_path / "questions", "temporal", ["a.mp4", "a.mp4", "b.mp4"])
    write_pairs(tmp_path / "questions", "detail", ["c.mp4", "a.mp4"])
    write_video(tmp_path / "videos" / "a.mp4", 10)
    write_video(tmp_path / "videos" / "temporal" / "videos" / "b.mp4", 20)
    write_video(tmp_path / "videos" / "detail" / "videos" / "c.mp4", 30)
    return {"questions": str(tmp_path / "questions"), "videos": str(tmp_path / "videos")}


def on_rank(data: VideoHallucerQuestions, rank: int, world: int) -> QuestionLoader:
    data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": world, "rank": rank})
    return data.test_dataloader()


def test_published_files_load_under_their_result_names() -> None:
    files = {read_annotation(path).subset: path for path in find_annotations(PUBLISHED, None, None)}
    assert set(files) == {"obj_rel", "temporal", "semantic", "fact", "nonfact", "interaction", "factdet"}
    assert files["temporal"].name == "temporal.json"
    fact = read_annotation(files["fact"]).pairs[0]
    assert fact["hallucination"]["explanation"]
    assert "type" not in read_annotation(files["interaction"]).pairs[0]
    assert {pair["basic"]["answer"] for pair in read_annotation(files["factdet"]).pairs} == {"no"}


def test_the_longer_temporal_version_is_taken_when_asked_for() -> None:
    (path,) = find_annotations(PUBLISHED, ["temporal"], 200)
    annotation = read_annotation(path)
    assert path.name == "temporal_200_pre_dedup.json"
    assert annotation.subset == "temporal"
    assert annotation.sha256 != read_annotation(PUBLISHED / "temporal.json").sha256


def test_another_temporal_version_than_asked_for_is_refused(tmp_path: Path) -> None:
    data = VideoHallucerQuestions(str(PUBLISHED), str(tmp_path), subsets=["temporal"], temporal=176)
    with pytest.raises(ValueError, match=r"temporal.json has 2 pairs, but temporal: 176"):
        data.setup("test")


def test_published_folders_per_subset_are_found(tmp_path: Path) -> None:
    write_pairs(tmp_path / "temporal", "temporal", ["a.mp4"])
    write_pairs(tmp_path / "temporal", "notes", ["a.mp4"])
    assert find_annotations(tmp_path, None, None) == [tmp_path / "temporal" / "temporal.json"]


def test_a_batch_holds_prompts_and_evenly_sampled_frames(small: dict[str, str]) -> None:
    data = VideoHallucerQuestions(**small, num_frames=3, batch_size=4, subsets=["temporal", "detail"])
    data.setup("test")
    batches = list(data.test_dataloader())
    assert [len(batch.keys) for batch in batches] == [4, 4, 2]
    assert batches[0].keys[:2] == ["temporal/000000/basic", "temporal/000000/hallucination"]
    assert batches[0].prompts[0] == PROMPT.replace("{question}", "Is temporal 0 there?")
    shades = [int(frames.float().mean().round()) for batch in batches for frames in batch.frames]
    assert all(frames.shape == (3, 3, 16, 24) for batch in batches for frames in batch.frames)
    assert np.allclose(shades, [10] * 4 + [20] * 2 + [30] * 2 + [10] * 2, atol=2)


@pytest.mark.parametrize(
    ("world", "batch_size", "num_workers"), [(1, 3, 0), (2, 4, 0), (3, 4, 0), (4, 4, 0), (2, 2, 1)]
)
def test_every_question_once_and_as_many_batches_on_every_rank(
    small: dict[str, str], world: int, batch_size: int, num_workers: int
) -> None:
    data = VideoHallucerQuestions(**small, num_frames=1, batch_size=batch_size, num_workers=num_workers)
    data.setup("test")
    loaders = [on_rank(data, rank, world) for rank in range(world)]
    assert len({len(loader) for loader in loaders}) == 1
    shares = [list(loader) for loader in loaders]
    assert [len(share) for share in shares] == [len(loader) for loader in loaders]
    assert sorted(key for share in shares for batch in share for key in batch.keys) == sorted(data.asked)
    assert len(data.asked) == 10


def test_the_loader_is_not_one_that_lightning_splits_again(small: dict[str, str]) -> None:
    data = VideoHallucerQuestions(**small)
    data.setup("test")
    assert not isinstance(data.test_dataloader(), DataLoader)


def test_all_missing_videos_are_listed_at_once(small: dict[str, str]) -> None:
    (Path(small["videos"]) / "a.mp4").unlink()
    (Path(small["videos"]) / "detail" / "videos" / "c.mp4").unlink()
    with pytest.raises(ValueError, match=r"2 videos are missing .*allow_missing") as error:
        VideoHallucerQuestions(**small).setup("test")
    assert str(error.value).splitlines()[1:] == ["  a.mp4: no such video", "  c.mp4: no such video"]


def test_files_that_are_no_videos_at_first_sight_are_listed_with_the_missing_ones(small: dict[str, str]) -> None:
    """What a failed download leaves."""
    (Path(small["videos"]) / "a.mp4").write_bytes(b"")
    (Path(small["videos"]) / "detail" / "videos" / "c.mp4").write_text("<!DOCTYPE html>\nNot found")
    with pytest.raises(ValueError, match="2 videos are missing") as error:
        VideoHallucerQuestions(**small).setup("test")
    assert str(error.value).splitlines()[1:] == ["  a.mp4: the file is empty", "  c.mp4: the file is a text"]


def test_allow_missing_asks_the_rest_and_says_what_is_left_out(small: dict[str, str]) -> None:
    (Path(small["videos"]) / "a.mp4").unlink()
    data = VideoHallucerQuestions(**small, allow_missing=True)
    data.setup("test")
    assert len(data.asked) == 4
    assert data.missing["temporal/000001/basic"] == "a.mp4: no such video"
    assert len(data.missing) == 6


def test_nothing_left_to_ask_is_an_error(small: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of the 10 questions"):
        VideoHallucerQuestions(small["questions"], str(tmp_path / "nowhere"), allow_missing=True).setup("test")


def test_an_undecodable_video_is_named_or_skipped(small: dict[str, str]) -> None:
    (Path(small["videos"]) / "a.mp4").write_bytes(b"\0 not a video")
    data = VideoHallucerQuestions(**small, subsets=["temporal"])
    data.setup("test")
    with pytest.raises(ValueError, match=r"question temporal/000000/basic, video .*a\.mp4: undecodable"):
        list(data.test_dataloader())
    data = VideoHallucerQuestions(**small, subsets=["temporal"], allow_missing=True)
    data.setup("test")
    (batch,) = data.test_dataloader()
    assert len(batch.keys) == len(batch.frames) == len(batch.prompts) == 2
    halves = ("basic", "hallucination")
    assert set(batch.skipped) == {f"temporal/{pair:06d}/{half}" for pair in (0, 1) for half in halves}


def test_without_videos_every_question_is_asked(small: dict[str, str]) -> None:
    data = VideoHallucerQuestions(small["questions"], None)
    data.setup("test")
    batches = list(data.test_dataloader())
    assert sum(len(batch.keys) for batch in batches) == 10
    assert not any(batch.frames for batch in batches)


def test_limit_pairs_takes_the_first_of_each_subset(small: dict[str, str]) -> None:
    data = VideoHallucerQuestions(**small, limit_pairs=1)
    data.setup("test")
    assert {key.split("/")[1] for key in data.asked} == {"000000"}
    assert len(data.asked) == 4


def test_every_fault_of_an_annotation_file_is_listed(tmp_path: Path) -> None:
    good = {"video": "a.mp4", "question": "?", "answer": "yes"}
    rows = [{"basic": good, "hallucination": {**good, "question": " "}}, {"basic": {**good, "video": 3}}, "x"]
    (tmp_path / "odd.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="4 faults") as error:
        read_annotation(tmp_path / "odd.json")
    faults = ["row 0: hallucination.question", "row 1: basic.video", "row 1: hallucination is missing", "row 2: is not"]
    assert all(fault in str(error.value) for fault in faults)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_files_that_hold_no_pairs_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(ValueError, match=r"odd\.json"):
        read_annotation(tmp_path / "odd.json")


def test_unknown_subsets_and_files_are_named(small: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no questions for \['motion'\] .* detail, temporal"):
        VideoHallucerQuestions(**small, subsets=["motion"]).setup("test")
    with pytest.raises(ValueError, match=r"do not exist: .*gone\.json"):
        VideoHallucerQuestions([str(tmp_path / "gone.json")], None).setup("test")
    with pytest.raises(ValueError, match="each subset needs a name of its own"):
        VideoHallucerQuestions([f"{small['questions']}/detail.json"] * 2, None).setup("test")


def test_a_prompt_needs_a_place_for_the_question(small: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\{question\}"):
        VideoHallucerQuestions(**small, prompt="Answer yes or no.")


def test_what_is_answered_is_not_asked_and_every_rank_still_gets_a_batch(small: dict[str, str]) -> None:
    data = VideoHallucerQuestions(**small, num_frames=1, batch_size=4)
    data.setup("test")
    data.skip(data.asked[:7])
    assert data.asked_now == data.asked[7:]
    assert sorted(key for rank in (0, 1) for batch in on_rank(data, rank, 2) for key in batch.keys) == data.asked[7:]
    data.skip(data.asked)
    assert [[batch.keys for batch in on_rank(data, rank, 2)] for rank in (0, 1)] == [[[]], [[]]]


def test_a_span_is_shown_alone(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(0, 240, 10, dtype=np.uint8), 16 * 16 * 3).reshape(24, 16, 16, 3)
    path = tmp_path / "ramp.mp4"
    path.write_bytes(encode_mp4(ramp, fps=8.0))
    whole = Question("a/0", "a", 0, "What?", "ramp.mp4", "", path)
    late = replace(whole, key="a/1", span=(2.0, 3.0))
    (batch,) = QuestionLoader(QuestionBatches([[whole, late, whole]], 3, allow_missing=False), 0)
    means = [[float(frame.float().mean()) for frame in video] for video in batch.frames]
    assert means[0] == means[2]
    assert means[0] == pytest.approx([0, 110, 230], abs=8)
    assert min(means[1]) > 150
    assert late.fingerprint != whole.fingerprint


def test_a_questions_fingerprint_is_of_video_and_prompt() -> None:
    question = Question("a/0", "a", 0, "What?", "v.mp4", "yes")
    assert question.fingerprint == replace(question, key="a/1", answer="no").fingerprint
    assert (
        len(
            {
                question.fingerprint,
                replace(question, prompt="Who?").fingerprint,
                replace(question, video="w.mp4").fingerprint,
            }
        )
        == 3
    )
