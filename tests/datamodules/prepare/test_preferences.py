"""Preference data of other suites to shards: every format's rows with their values, and what is refused or left out."""

from __future__ import annotations

import base64
import csv
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from callbacks.reference.model import ReferenceModel
from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.preferences import prepare_preferences
from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import decode_frames
from datamodules.vista.samples import PreferenceRow
from datamodules.vista.span_negatives import GivenVideo
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.annotated_videos import numbered_frames, numbered_video, numbers
from tests.support.pairs_harness import attached, trainer
from tests.support.paths import DATA
from tests.support.preference_fakes import TinyPolicy

FORMATS = DATA / "formats" / "vlm"
QUESTION = "What does the cook do after slicing the onion?"
CHOSEN = "She slides the slices into the hot pan and stirs them."
REJECTED = "She puts the slices back into the fridge."
NAMES = (
    "clips/kitchen_01", "kitchen_01", "videos/kitchen_01", "clips/dog", "clips/cup", "clips/cup_reversed",
    "clips/two_turns", "long/abc", "academic_source/Charades/ABC12",
)  # fmt: skip


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every video that the examples name, each with numbers of its own; two of them as folders of frames."""
    import cv2

    folder = tmp_path_factory.mktemp("media")
    for place, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.mp4").write_bytes(numbered_video(6 * place, count=6))
    for name, start in (("v_0001-Scene-001", 54), ("frames/cup", 59)):
        (folder / name).mkdir(parents=True)
        for number, frame in enumerate(numbered_frames(start, count=5), 1):
            cv2.imwrite(str(folder / name / f"{number:04d}.jpg"), frame.permute(1, 2, 0).numpy()[:, :, ::-1])
    return folder


def nearest(frames: torch.Tensor) -> list[int]:
    """`numbers` of frames that were encoded with loss."""
    return [round(int(value) / 4) for value in frames[:, 0, -1, -1]]


def content_of(index: Index, position: int, suffix: str) -> bytes:
    return SampleReader(index).read(position)[suffix]


def rows_of(index: Index) -> list[PreferenceRow]:
    return [PreferenceRow.from_json(json.loads(content_of(index, place, "json"))) for place in range(len(index))]


def written(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows, indent=1))
    elif name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows({name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in row.items()}
                            for row in rows)  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("file", "format_", "video", "source", "facts"),
    [
        ("llamafactory_sharegpt_dpo.json", "llamafactory", "clips/kitchen_01.mp4", "llamafactory", {}),
        ("llamafactory_alpaca_dpo.json", "llamafactory", "clips/kitchen_01.mp4", "llamafactory", {}),
        ("llamafactory_v1_dpo.jsonl", "llamafactory_v1", "clips/kitchen_01.mp4", "llamafactory_v1", {}),
        ("qwen_vl_finetune_dpo.json", "qwen_vl", "kitchen_01.mp4", "qwen_vl", {"id": "kitchen_01_0"}),
        (
            "verl_omni.parquet",
            "verl_omni",
            "clips/kitchen_01.mp4",
            "verl_omni",
            {"data_source": "my_video_preference", "ability": "video_qa", "win_score": 8.0, "lose_score": 5.0},
        ),
        (
            "llava_hound_dpo.jsonl",
            "llava_hound",
            "v_0001-Scene-001",
            "llava_hound",
            {
                "id": "v_0001-Scene-001_0",
                "answer": "She adds them to the pan.",
                "chosen_score": 4.0,
                "rejected_score": 2.0,
            },
        ),
        ("longvpo.jsonl", "longvpo", "long/abc.mp4", "longvpo/action order", {"task_type": "action order"}),
        ("unified_reward_video_dpo.json", "unified_reward", "clips/kitchen_01.mp4", "unified_reward", {"id": "0"}),
        (
            "omni_preference_video.jsonl",
            "omni_preference",
            "academic_source/Charades/ABC12.mp4",
            "omni_preference",
            {"chosen_score": 8, "rejected_score": 4},
        ),
        ("align_anything_tv2t.json", "align_anything", "videos/kitchen_01.mp4", "align_anything", {}),
    ],
)
def test_each_format_is_recognised_and_keeps_its_values(
    media: Path, tmp_path: Path, file: str, format_: str, video: str, source: str, facts: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"media": media}
    if format_ in ("verl_omni", "omni_preference"):
        options["media_prefix"] = "/data"
    index = prepare_preferences(FORMATS / file, tmp_path / "auto", **options)
    assert verify(tmp_path / "auto.index.json") == []
    (row,) = rows_of(index)
    assert (row.question, row.chosen, row.rejected) == (QUESTION, CHOSEN, REJECTED)
    assert (row.video_id, row.source, row.facts, row.turns, row.rejected_video) == (video, source, facts, (), None)
    named = prepare_preferences(FORMATS / file, tmp_path / "named", format=format_, **options)
    assert rows_of(named) == rows_of(index)
    first = 54 if format_ == "llava_hound" else 6 * NAMES.index(video.removesuffix(".mp4"))
    assert nearest(decode_frames(content_of(index, 0, "mp4"), [0, 4])) == [first, first + 4]


def test_ms_swift_in_all_its_variants(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rows: 1 a string, 2 messages, 3 a list, 4 frames, 5 another video alone, 6 base64, 7 two turns."""
    file = FORMATS / "ms_swift_dpo.jsonl"
    index = prepare_preferences(file, tmp_path / "out", media=media, media_prefix="/data", skip_bad=True)
    assert verify(tmp_path / "out.index.json") == []
    rows = {row.key: row for row in rows_of(index)}
    assert list(rows) == [f"ms_swift_dpo-{number:06d}" for number in (1, 3, 4, 5, 7)]
    one, three, four, five, seven = rows.values()
    assert (one.question, one.chosen, one.rejected) == (QUESTION, CHOSEN, REJECTED)
    assert (three.chosen, three.rejected) == ("A dog jumps over a low fence.", "A cat sleeps on a sofa.")
    assert (four.video_id, four.video.frames, four.video.fps) == ("frames/cup", 3, 1.0)
    assert nearest(decode_frames(content_of(index, 2, "mp4"), range(3))) == [59, 60, 61]
    assert (five.chosen, five.rejected) == ("The cup falls and breaks.", "")
    assert five.rejected_video is not None
    assert five.video_id == "clips/cup.mp4"
    assert numbers(decode_frames(content_of(index, 3, "mp4"), [0])) == [24]
    assert numbers(decode_frames(content_of(index, 3, "rejected.mp4"), [0])) == [30]
    assert seven.turns == (("First question?", "First answer."),)
    assert (seven.question, seven.rejected) == ("And then?", "The last answer that is not preferred.")
    said = capsys.readouterr().out
    assert "7 rows read as swift (ms-swift's format)" in said
    assert "differ in the video alone, shown by the negative GivenVideo: 1" in said
    assert "dropped: chat_template_kwargs 1, system message 1" in said
    skipped = [json.loads(line) for line in (tmp_path / "out.skipped.jsonl").read_text().splitlines()]
    assert [line["row"] for line in skipped] == [2, 6]
    assert skipped[0]["faults"][0]["why"] == "repeats row 1: the same video, question and answers"
    assert "its base64 is no video" in skipped[1]["faults"][0]["why"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_every_container_gives_the_same_rows(media: Path, tmp_path: Path, name: str) -> None:
    swift = {
        "messages": [
            {"role": "user", "content": "Look.\n<video>\nWhat jumps?"},
            {"role": "assistant", "content": "A dog."},
        ],
        "videos": ["clips/dog.mp4"],
        "rejected_response": "A cat.",
    }
    (row,) = rows_of(prepare_preferences(written(tmp_path, name, swift), tmp_path / "out", media=media))
    assert (row.question, row.chosen, row.rejected) == ("Look.\nWhat jumps?", "A dog.", "A cat.")
    assert row.video_id == "clips/dog.mp4"


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"reading parquet needs pyarrow; pip install -c constraints\.txt"):
        prepare_preferences(FORMATS / "verl_omni.parquet", tmp_path / "out")


def trl_row(**changes: Any) -> dict[str, Any]:
    message = [{"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}]
    parts = [{"type": "video", "video": "clips/dog.mp4"}, {"type": "text", "text": "What jumps?"}]
    rejected = [{"role": "assistant", "content": "A cat."}]
    return {"prompt": [{"role": "user", "content": parts}], "chosen": message, "rejected": rejected} | changes


def test_trl_rows_with_a_video_part_or_column(media: Path, tmp_path: Path) -> None:
    asked = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What jumps?"}]}]
    rows = written(tmp_path, "trl.jsonl", trl_row(), trl_row(prompt=asked, videos=["clips/cup.mp4"]))
    first, second = rows_of(prepare_preferences(rows, tmp_path / "out", media=media))
    assert (first.question, first.chosen, first.rejected) == ("What jumps?", "A dog.", "A cat.")
    assert (first.video_id, second.video_id, first.source) == ("clips/dog.mp4", "clips/cup.mp4", "trl")


def test_base64_and_bytes_are_packed_as_they_are(tmp_path: Path) -> None:
    video = numbered_video(50, count=6)
    text = base64.b64encode(video).decode()
    rows = written(tmp_path, "a.jsonl", trl_row(videos=[f"data:video/mp4;base64,{text}"]))
    assert content_of(prepare_preferences(rows, tmp_path / "a"), 0, "mp4") == video
    rows = written(tmp_path, "b.parquet", trl_row(videos=[{"bytes": video, "path": None}]))
    assert content_of(prepare_preferences(rows, tmp_path / "b"), 0, "mp4") == video


def test_llama_factory_names_columns_and_roles_in_dataset_info(media: Path, tmp_path: Path) -> None:
    row = {
        "talk": [
            {"role": "U", "content": "<video>What jumps?"},
            {"role": "A", "content": "A dog."},
            {"role": "U", "content": "How high?"},
        ],
        "good": {"role": "A", "content": "One metre."},
        "bad": {"role": "A", "content": "Two."},
        "clips": ["clips/dog.mp4"],
    }
    columns = {"messages": "talk", "chosen": "good", "rejected": "bad", "videos": "clips"}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "U", "assistant_tag": "A"}
    info = {"mine": {"file_name": "mine.json", "ranking": True, "columns": columns, "tags": tags}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (read,) = rows_of(prepare_preferences(written(tmp_path, "mine.json", row), tmp_path / "out", media=media))
    assert read.turns == (("What jumps?", "A dog."),)
    assert (read.question, read.chosen, read.rejected) == ("How high?", "One metre.", "Two.")
    with pytest.raises(ValueError, match=r"describes data sets; give the file of one of them: mine\.json"):
        prepare_preferences(tmp_path / "dataset_info.json", tmp_path / "info", media=media)


def test_rows_that_prefer_neither_answer_are_left_out_and_counted(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.loads((FORMATS / "align_anything_tv2t.json").read_text())[0]
    rows = written(tmp_path, "a.json", row, {**row, "overall_response": 0}, {**row, "overall_response": None})
    with pytest.raises(ValueError, match="row 3, row: does not fit align_anything, it has no overall_response"):
        prepare_preferences(rows, tmp_path / "a", media=media)
    rows = written(tmp_path, "b.json", row, {**row, "overall_response": 0})
    assert len(prepare_preferences(rows, tmp_path / "b", media=media)) == 1
    assert "left out, because they prefer neither answer: 1" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["trl_vision.parquet", "trl_vision_row.json", "rlaif_v_row.json"])
def test_rows_of_pictures_are_refused(media: Path, tmp_path: Path, file: str) -> None:
    with pytest.raises(ValueError, match="rows that only have pictures or sounds are not read"):
        prepare_preferences(FORMATS / file, tmp_path / "out", media=media, skip_bad=True)
    assert not list(tmp_path.glob("out*"))


SWIFT = {"messages": [{"role": "user", "content": "<video>What?"}, {"role": "assistant", "content": "A dog."}],
         "videos": ["clips/dog.mp4"], "rejected_response": "A cat."}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (trl_row(), "row: does not fit swift, it has no messages, no rejected_response or"),
        (trl_row(), "the nearest format is trl (its fields: prompt, chosen, rejected)"),
        ({**SWIFT, "rejected_response": None}, "it has no rejected_response or rejected_messages or rejected_videos"),
        ({**SWIFT, "rejected_response": " A dog. "}, "rejected: is the same text as the chosen answer"),
        ({**SWIFT, "videos": ["clips/dog.mp4", "clips/cup.mp4"]}, "videos: has 2 videos; a row has one"),
        ({**SWIFT, "videos": []}, "videos: is missing"),
        ({**SWIFT, "videos": "clips/none.mp4"}, "video: there is no file"),
        ({**SWIFT, "videos": "https://a.b/c.mp4"}, "video: https://a.b/c.mp4 is an address; download the video"),
        ({**SWIFT, "videos": "frames/cup/0001.jpg"}, "video: 0001.jpg is a picture, not a video"),
        ({**SWIFT, "videos": "clips/other"}, "video: there is neither a folder of frames"),
        ({**SWIFT, "rejected_videos": ["clips/none.mp4"]}, "rejected_video: there is no file"),
        ({**SWIFT, "images": ["a.jpg"]}, "images: comes beside the video"),
        ({**SWIFT, "messages": SWIFT["messages"][:1]}, "messages: end with the question"),
        ({**SWIFT, "messages": SWIFT["messages"][1:]}, "messages: message 1 is of 'assistant', where one of 'user'"),
        (
            {**SWIFT, "messages": [{"role": "user", "content": "<video><video>?"}, SWIFT["messages"][1]]},
            "messages: has 2 <video> tokens; a row has one video",
        ),
        (
            {**SWIFT, "rejected_messages": [{"role": "user", "content": "Who?"}, SWIFT["messages"][1]]},
            "rejected_messages: asks something else than the chosen side",
        ),
    ],
)
def test_a_bad_row_is_named_with_what_is_wrong(media: Path, tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    rows = written(tmp_path, "rows.jsonl", {**SWIFT, "rejected_response": "A horse."}, row)
    with pytest.raises(ValueError, match="nothing was written") as caught:
        prepare_preferences(rows, tmp_path / "out", format="swift", media=media)
    assert "row 2, " in str(caught.value)
    assert expected in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_all_faults_of_a_row_are_listed(media: Path, tmp_path: Path) -> None:
    row = {**SWIFT, "videos": "clips/none.mp4", "rejected_videos": "clips/no.mp4", "rejected_response": ""}
    other = {**SWIFT, "videos": "clips/none.mp4", "rejected_response": "A dog."}
    with pytest.raises(ValueError, match="2 of 3 rows are bad") as caught:
        prepare_preferences(written(tmp_path, "rows.jsonl", SWIFT, row, other), tmp_path / "out", media=media)
    fields = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:-2]]
    assert fields == ["row 2, video", "row 2, rejected_video", "row 3, video", "row 3, rejected"]


def test_faults_are_cut_at_ten_with_a_count(media: Path, tmp_path: Path) -> None:
    rows = written(tmp_path, "rows.jsonl", SWIFT, *({**SWIFT, "videos": f"clips/{n}.mp4"} for n in range(13)))
    with pytest.raises(ValueError, match="13 of 14 rows are bad") as caught:
        prepare_preferences(rows, tmp_path / "out", media=media)
    lines = str(caught.value).splitlines()
    assert len([line for line in lines if "there is no file" in line]) == 10
    assert lines[11] == "  and 3 more"


def test_a_file_of_no_format_names_the_nearest(tmp_path: Path) -> None:
    rows = written(tmp_path, "rows.json", {"query": "What?", "chosen": "A.", "video": "a.mp4", "rejected": "B."})
    with pytest.raises(ValueError, match="row 1, row: does not fit any format; the nearest format is") as caught:
        prepare_preferences(rows, tmp_path / "out")
    assert "the formats are omni_preference, swift" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("ms_swift_dpo.jsonl", "this looks like ms-swift's format"),
        ("qwen_vl_finetune_dpo.json", "this looks like Qwen-VL-Series-Finetune's format"),
        ("verl_omni.parquet", "this looks like verl-omni's format"),
        ("longvpo.jsonl", "this looks like LongVPO's format"),
    ],
)
def test_prepare_jsonl_says_which_format_it_is_given(tmp_path: Path, file: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        prepare_jsonl(FORMATS / file, tmp_path / "out")
    assert f"use `vidpref prepare preferences {FORMATS / file} {tmp_path / 'out'}`" in str(caught.value)


def test_prepare_jsonl_says_that_a_list_is_not_json_lines(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "question": "What?", "chosen": "A.", "rejected": "B.", "irrelevant": "C."}
    with pytest.raises(ValueError, match="its rows are not JSON lines; write one JSON object a line"):
        prepare_jsonl(written(tmp_path, "rows.json", row), tmp_path / "out")


def mixed_shards(media: Path, folder: Path) -> Path:
    """One row with another answer, one with another video alone, one with both."""
    rows = [
        SWIFT,
        {**SWIFT, "rejected_response": None, "videos": "clips/cup.mp4", "rejected_videos": "clips/cup_reversed.mp4"},
        {**SWIFT, "rejected_response": "A horse.", "rejected_videos": ["clips/two_turns.mp4"]},
    ]
    prepare_preferences(written(folder, "rows.jsonl", *rows), folder / "out", media=media)
    return folder / "out.index.json"


def test_a_given_video_is_the_negative_of_its_row_alone_and_a_missing_answer_leaves_the_denominators(
    media: Path, tmp_path: Path
) -> None:
    data = attached(
        VistaPairs(str(mixed_shards(media, tmp_path)), num_frames=4, batch_size=3, video_negative=GivenVideo())
    )
    (batch,) = data.train_dataloader()
    assert batch.denominators == {
        "response": 2.0, "token": 2.0, "supervised": 3.0, "video": 2.0, "clip": 1.0, "object": 1.0,  # of no item
    }  # fmt: skip
    shown = {(batch.keys[view.sample], view.name): numbers(view.frames) for view in batch.views}
    assert shown == {
        ("rows-000001", "original"): [18, 19, 21, 23],
        ("rows-000002", "original"): [24, 25, 27, 29],
        ("rows-000002", "video_negative"): [30, 31, 33, 35],
        ("rows-000003", "original"): [18, 19, 21, 23],
        ("rows-000003", "video_negative"): [36, 37, 39, 41],
    }
    answers = {batch.keys[view.sample]: list(view.answers) for view in batch.views if view.name == "original"}
    assert answers["rows-000002"] == ["chosen"]
    assert answers["rows-000001"] == answers["rows-000003"] == ["chosen", "rejected"]


def test_earlier_turns_reach_the_views(media: Path, tmp_path: Path) -> None:
    prepare_preferences(
        FORMATS / "ms_swift_dpo.jsonl", tmp_path / "out", media=media, media_prefix="/data", skip_bad=True
    )
    data = attached(VistaPairs(str(tmp_path / "out.index.json"), num_frames=2, batch_size=5))
    (batch,) = data.train_dataloader()
    turns = {batch.keys[view.sample]: view.turns for view in batch.views}
    assert turns["ms_swift_dpo-000007"] == (("First question?", "First answer."),)
    assert {turns[key] for key in turns if not key.endswith("7")} == {()}


def test_a_fit_step_trains_on_given_videos(media: Path, tmp_path: Path) -> None:
    """The row without a rejected answer trains the video term alone, by its own video."""
    data = VistaPairs(str(mixed_shards(media, tmp_path)), num_frames=4, batch_size=3, video_negative=GivenVideo())
    weights = VistaWeights(clip=0.0, object=0.0)
    module = VistaDPO(TinyPolicy(), partial(torch.optim.SGD, lr=0.05), weights=weights, schedule="constant", warmup=0.0)
    run = trainer(tmp_path, max_steps=1, callbacks=[ReferenceModel()])
    run.fit(module, data)
    logged = {name: float(value) for name, value in run.logged_metrics.items()}
    # At the start policy and reference agree, so every item's loss is log 2 and the means are over the items alone.
    for term in ("response", "video", "token"):
        assert logged[f"train/loss/{term}"] == pytest.approx(0.6931, abs=1e-3)
    moved = [name for name, value in module.named_parameters() if "lora_B" in name and value.abs().sum() > 0]
    assert moved
