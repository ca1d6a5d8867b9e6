import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base.answers import AnswerLog, asked_as_now, check_same, line_of, read_lines
from benchmarks.base.predictions import matched, recorded_lines
from datamodules.questions.base import Question
from lightning_modules.policy_loading import settings_and_contents


def question(key: str, prompt: str = "Is it?") -> Question:
    return Question(key, key.split("/")[0], 0, prompt, "a.mp4", "yes")


ONE, TWO = question("temporal/000000/basic"), question("temporal/000000/hallucination")


def test_answers_are_on_disk_at_once_and_a_torn_line_is_asked_again(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path)
    log.append(0, [line_of(ONE, {"predict": "Yes."})])
    log.append(1, [])
    part = tmp_path / "answers" / "rank-00000.jsonl"
    with part.open("a") as file:
        file.write('{"key": "temporal/000000/halluc')
    assert set(AnswerLog(tmp_path).read()) == {ONE.key}
    again = AnswerLog(tmp_path)
    again.append(0, [line_of(TWO, {"predict": "No."})])
    assert {key: answer["predict"] for key, answer in again.read().items()} == {ONE.key: "Yes.", TWO.key: "No."}


def test_all_parts_are_joined_in_the_questions_order(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path)
    log.append(0, [line_of(TWO, {"predict": "No."}), line_of(question("other/1/basic"), {"predict": "x"})])
    AnswerLog(tmp_path).append(1, [line_of(ONE, {"predict": "Yes.", "margin": 0.5})])
    log.join([ONE.key, TWO.key, "never/asked"])
    assert not (tmp_path / "answers").exists()
    assert [key for key, _ in read_lines(tmp_path / "answers.jsonl")] == [ONE.key, TWO.key, "other/1/basic"]
    assert log.read()[ONE.key] == {"asked": ONE.fingerprint, "predict": "Yes.", "margin": 0.5}
    # A start that was killed between joining and tidying up finds both.
    log.append(0, [line_of(ONE, {"predict": "Yes.", "margin": 0.5})])
    assert len(log.read()) == 3


def test_files_beside_the_ranks_are_neither_read_nor_removed(tmp_path: Path) -> None:
    others = ["notes.txt", "rank-00000.jsonl.bak", "rank-mine.jsonl", "questions.jsonl"]
    (tmp_path / "answers").mkdir()
    for name in others:
        (tmp_path / "answers" / name).write_text("precious")
    log = AnswerLog(tmp_path)
    log.begin({"prompt": "p"}, fresh=False)
    log.append(0, [line_of(ONE, {"predict": "Yes."})])
    log.join([ONE.key])
    log.append(3, [line_of(TWO, {"predict": "No."})])
    assert set(log.read()) == {ONE.key, TWO.key}
    log.begin({"prompt": "q"}, fresh=True)
    assert log.read() == {}
    assert {path.name: path.read_text() for path in (tmp_path / "answers").iterdir()} == dict.fromkeys(
        others, "precious"
    )


def test_other_settings_are_refused_with_every_difference(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path)
    log.begin({"prompt": "never asked"}, fresh=False)
    log.begin({"policy": {"path": "a", "dtype": "float32"}, "prompt": "p"}, fresh=False)
    log.append(0, [line_of(ONE, {"predict": "Yes."})])
    now = {"policy": {"path": "b", "dtype": "float32"}, "prompt": "q"}
    log.begin(now, fresh=False)
    with pytest.raises(ValueError, match=r"model\.fresh: true") as error:
        log.check(now)
    assert 'policy.path was "a", is "b"' in str(error.value)
    assert 'prompt was "p", is "q"' in str(error.value)
    log.begin(now, fresh=True)
    log.check(now)
    assert log.read() == {}


def test_lines_that_are_no_answers_and_doubled_ones_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    good = json.dumps(line_of(ONE, {"predict": "Yes."}))
    path.write_text(f'{good}\n[1]\n{good}\n{{"key": "x"}}\nnot json\n')
    with pytest.raises(ValueError, match="3 lines") as error:
        AnswerLog(tmp_path).read()
    assert all(f"line {number} " in str(error.value) for number in (2, 4, 5))
    path.write_text(f"{good}\n{good}\n")
    with pytest.raises(ValueError, match=f"more than once.*\n  {ONE.key}"):
        AnswerLog(tmp_path).read()
    twice = recorded_lines(path, {ONE.key: ONE}, [ONE.key])
    assert twice.doubled == [ONE.key]
    assert twice.left_out() == {}, "both lines say the same"
    path.write_text(f"{good}\n{good.replace('Yes', 'No')}\n")
    twice = recorded_lines(path, {ONE.key: ONE}, [ONE.key])
    assert twice.left_out() == {ONE.key: "several recorded answers"}
    with pytest.raises(ValueError, match="1 questions are answered more than once"):
        twice.check(path, allow_missing=False)


def test_answers_to_questions_that_have_moved_are_found_and_those_to_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    lines = [line_of(ONE, {"predict": "Yes."}), line_of(question(TWO.key, "Was it?"), {"predict": "No."})]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    moved = {"temporal/000007/basic": replace(ONE, key="temporal/000007/basic"), TWO.key: replace(TWO, prompt="Who?")}
    recorded = recorded_lines(path, moved, list(moved))
    assert recorded.answers == {"temporal/000007/basic": {"predict": "Yes."}}
    assert recorded.missing == recorded.unknown == [TWO.key]


def test_answers_to_other_questions_under_the_same_keys_are_all_listed() -> None:
    before = {asked.key: line_of(asked, {"predict": "Yes."}) for asked in (ONE, TWO)}
    now = {asked.key: question(asked.key, "Was it?") for asked in (ONE, TWO)}
    assert asked_as_now(before, {ONE.key: ONE}, Path("x"))[ONE.key] == {"key": ONE.key, "predict": "Yes."}
    with pytest.raises(ValueError, match="2 answers in x were given to other questions") as error:
        asked_as_now(before, now, Path("x"))
    assert ONE.key in str(error.value)
    assert TWO.key in str(error.value)


def test_questions_that_cannot_be_told_apart_get_their_answers_in_order() -> None:
    identities = {"a": "same", "b": "same", "c": "other"}
    answers = [("same", {"predict": "1"}), ("other", {"predict": "2"}), ("same", {"predict": "3"})]
    recorded = matched(answers, identities, ["a", "b", "c"])
    assert {key: answer["predict"] for key, answer in recorded.answers.items()} == {"a": "1", "b": "3", "c": "2"}
    short = matched([("same", {"predict": "1"})], identities, ["a", "b"])
    assert short.missing == ["b"]


def test_beyond_the_limit_and_in_other_parts_is_not_unknown(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    lines = [line_of(asked, {"predict": "Yes."}) for asked in (ONE, TWO, question("detail/000000/basic"))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recorded = recorded_lines(path, {ONE.key: ONE, TWO.key: TWO}, [ONE.key])
    assert list(recorded.answers) == [ONE.key]
    assert not recorded.unknown


def test_a_policys_settings_change_with_its_files(tmp_path: Path) -> None:
    class Policy:
        def __init__(self, adapter: str) -> None:
            self.adapter, self.num_frames, self._loaded, self.training = adapter, 8, 1, True

    def settings(policy: Policy) -> dict[str, Any]:
        return settings_and_contents(policy, nested=False)

    weights = tmp_path / "adapter" / "weights.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    before = settings(Policy(str(weights.parent)))
    assert before == settings(Policy(str(weights.parent)))
    assert before["num_frames"] == 8
    assert "_loaded" not in before
    os.utime(weights, (1, 1))
    assert settings(Policy(str(weights.parent))) == before, "a copy has other times"
    weights.write_bytes(b"two")
    assert settings(Policy(str(weights.parent))) != before
    assert settings(Policy("some/hub-id"))["contents"] == {}


def test_answers_of_replaced_weights_are_refused_and_those_of_an_earlier_release_are_kept(tmp_path: Path) -> None:
    def settings(**more: Any) -> dict[str, Any]:
        return {"policy": {"path": "base", **more}}

    log = AnswerLog(tmp_path)
    log.begin(settings(files={"path": "0" * 16}), fresh=False)
    log.append(0, [line_of(ONE, {"predict": "Yes."})])
    with pytest.warns(UserWarning, match=r"files in policy\.path: whether they have been replaced since is not known"):
        log.check(settings(contents={"path": "a" * 32}))
    log.begin(settings(contents={"path": "a" * 32}), fresh=True)
    log.check(settings(contents={"path": "a" * 32}))
    with pytest.raises(ValueError, match=r"the files that policy\.path names have been replaced"):
        log.check(settings(contents={"path": "b" * 32}))


def test_a_file_that_nobody_appends_to_may_end_without_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(line_of(asked, {"predict": "Yes."})) for asked in (ONE, TWO)))
    assert list(recorded_lines(path, {ONE.key: ONE, TWO.key: TWO}, [ONE.key, TWO.key]).answers) == [ONE.key, TWO.key]
    assert [key for key, _ in read_lines(path, growing=True)] == [ONE.key]
    path.write_text(json.dumps({"key": "x", "predict": None}))
    with pytest.raises(ValueError, match="line 1 "):
        read_lines(path)
    with pytest.raises(ValueError, match="do not exist"):
        recorded_lines(tmp_path / "none.jsonl", {}, [])


def test_a_fresh_start_forgets_results_too(tmp_path: Path) -> None:
    for name in ("results.json", "details.json", "temporal_policy.json"):
        (tmp_path / name).write_text("{}")
    AnswerLog(tmp_path).begin({}, fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.settings.json", "temporal_policy.json"]


def test_a_question_whose_answer_is_null_has_none_and_leaves_the_others_in_place() -> None:
    identities = {"a": "same", "b": "same", "c": "other"}
    recorded = matched([("same", None), ("same", {"predict": "2"}), ("other", None)], identities, ["a", "b", "c"])
    assert recorded.answers == {"b": {"predict": "2"}}
    assert recorded.missing == ["a", "c"]
    assert matched([("other", None), ("other", {"predict": "3"})], identities, ["c"]).answers == {"c": {"predict": "3"}}


def test_what_was_recorded_must_be_what_was_judged() -> None:
    kept = {"a": {"predict": "x", "replies": {}}, "b": {"predict": "y"}}
    check_same(kept, {"a": {"predict": "x"}, "b": {"predict": "y"}, "c": {"predict": "z"}}, Path("out"))
    for other in ({}, {"b": {"predict": "z"}}):
        with pytest.raises(ValueError, match=r"1 answers in out are not those of model\.predictions[\s\S]*  b"):
            check_same(kept, {"a": {"predict": "x"}, **other}, Path("out"))
