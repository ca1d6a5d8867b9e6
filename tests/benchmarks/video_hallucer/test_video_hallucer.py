import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything

from benchmarks.video_hallucer.module import Predictions, VideoHallucer, score
from tests.support.goldens import golden
from tests.support.hallucer_world import Scripted, results_of, run_test, world

__all__ = ["world"]

GOLDEN = golden("bench_videohallucer")


def golden_subsets() -> Predictions:
    pairs, predictions = iter(GOLDEN["pairs"]), {}
    for subset in GOLDEN["subset_order"]:
        predictions[subset] = [next(pairs) for _ in range(GOLDEN["subsets"][subset])]
    return predictions


def test_scores_are_the_published_scorers() -> None:
    assert score(golden_subsets()) == GOLDEN["multi_subset"]
    assert score({"one": GOLDEN["pairs"]})["one"] == GOLDEN["scores_single_set"]


def pair_of(basic: str, hallucinated: str) -> dict[str, Any]:
    return {
        "basic": {"video": "a.mp4", "question": "?", "answer": "yes", "predict": basic},
        "hallucination": {"video": "a.mp4", "question": "?", "answer": "no", "predict": hallucinated},
    }


def test_scoring_refuses_what_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="at least one subset"):
        score({})
    with pytest.raises(ValueError, match="temporal has no pairs"):
        score({"temporal": []})
    lacking = pair_of("Yes.", "No.")
    del lacking["hallucination"]["predict"]
    with pytest.raises(ValueError, match=r"temporal.*1\.hallucination"):
        score({"temporal": [pair_of("Yes.", "No."), lacking]})


def test_a_policy_is_scored_and_the_published_files_are_written(world: Path) -> None:
    seed_everything(7, verbose=False)
    policy = Scripted()
    (logged,) = run_test(VideoHallucer(policy, str(world / "out"), name="scripted", margins=True), world)
    results = json.loads((world / "out" / "results.json").read_text())
    right, half = (1.0, 1.0, 1.0), (1.0, 0.0, 0.0)
    names = ("basic_accuracy", "halluc_accuracy", "accuracy")
    about = results.pop("about")
    assert results == {
        "semantic": dict(zip(names, half, strict=True)),
        "temporal": dict(zip(names, right, strict=True)),
        "all": dict(zip(names, (1.0, 0.5, 0.5), strict=True)),
    }
    assert policy._loaded == 1
    assert about["benchmark"] == "VideoHallucer"
    assert "ae4c2f25" in about["protocol"]
    assert about["seed"] == 7
    assert about["judge"] is None
    assert about["versions"]["torch"] == torch.__version__
    sha256 = hashlib.sha256((world / "questions" / "temporal.json").read_bytes()).hexdigest()
    assert about["annotations"]["temporal"]["sha256"] == sha256
    assert set(about["intervals"]["of"]) == {f"{part}/{name}" for part in results for name in names}
    assert about["intervals"]["of"]["temporal/accuracy"] == [1, 1]
    assert about["left_out"] == 0
    assert logged["test/basic"] == 1.0
    assert logged["test/hallucinated"] == logged["test/overall"] == 0.5

    predictions = json.loads((world / "out" / "temporal_scripted.json").read_text())
    assert [pair["hallucination"]["predict"] for pair in predictions] == ["No, it is not."] * 2
    assert predictions[0]["type"] == "x"
    assert predictions[0]["basic"]["margin"] == pytest.approx(20, abs=0.5)
    assert score({"temporal": predictions})["temporal"] == results["temporal"]

    details = json.loads((world / "out" / "details.json").read_text())
    assert details["seed"] == 7
    assert details["git_commit"] == about["git_commit"]
    assert details["versions"]["torch"] == torch.__version__
    assert details["annotations"]["temporal"]["pairs"] == details["annotations"]["temporal"]["scored"] == 2
    assert details["bias"]["all"]["n"] == 6
    assert details["auc"]["semantic"] == 1.0
    assert details["skipped"] == {}
    assert not list((world / "out").glob("*.tmp*"))


def test_missing_videos_stop_before_weights_are_loaded(world: Path) -> None:
    (world / "videos" / "dark.mp4").unlink()
    policy = Scripted()
    with pytest.raises(ValueError, match=r"dark\.mp4"):
        run_test(VideoHallucer(policy, str(world / "out")), world)
    assert policy._loaded == 0


@pytest.mark.parametrize("damage", ["missing", "undecodable"])
def test_pairs_without_both_videos_are_left_out_and_named(world: Path, damage: str) -> None:
    dark = world / "videos" / "dark.mp4"
    dark.unlink() if damage == "missing" else dark.write_bytes(b"noise")
    run_test(VideoHallucer(Scripted(), str(world / "out")), world, allow_missing=True)
    results = json.loads((world / "out" / "results.json").read_text())
    details = json.loads((world / "out" / "details.json").read_text())
    assert set(results) == {"temporal", "all", "about"}
    assert results["about"]["left_out"] == 3
    assert details["annotations"]["temporal"]["scored"] == 1
    assert details["annotations"]["semantic"]["scored"] == 0
    assert set(details["skipped"]) == {
        "semantic/000000/hallucination", "temporal/000001/basic", "temporal/000001/hallucination",
    }  # fmt: skip
    assert all("dark.mp4" in why for why in details["skipped"].values())


def test_the_papers_numbers_stand_beside_ours(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out"), paper="vista_dpo/table1/Video-LLaVA"), world)
    paper = results_of(world / "out")["about"]["paper"]
    assert [round(number["difference"], 1) for number in paper["numbers"]] == [4.9, 29.7, 32.2]
    assert any("the paper has the parts" in reason for reason in paper["not_comparable"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "+32.2" in printed
    assert "Not comparable with the paper" in printed
    with pytest.raises(ValueError, match="no row 'LLaVA'"):
        VideoHallucer(Scripted(), str(world / "out"), paper="vista_dpo/table1/LLaVA")


def test_exactly_one_source_of_answers() -> None:
    with pytest.raises(ValueError, match="one of the two"):
        VideoHallucer(None, "out")
    with pytest.raises(ValueError, match="one of the two"):
        VideoHallucer(Scripted(), "out", predictions="recorded")
    with pytest.raises(ValueError, match="margins need a policy"):
        VideoHallucer(None, "out", predictions="recorded", margins=True)


def test_a_policy_without_videos_is_refused(world: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.videos"):
        run_test(VideoHallucer(Scripted(), str(world / "out")), world, videos=None)


def test_scoring_leaves_the_predictions_alone() -> None:
    predictions = golden_subsets()
    before = copy.deepcopy(predictions)
    score(predictions)
    assert predictions == before
