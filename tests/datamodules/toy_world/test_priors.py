"""Language prior: the usual of a colour holds as often as asked, in every kind of row, and the video shows it."""

from __future__ import annotations

import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest

from datamodules.prepare.toy import prepare_toy
from datamodules.toy_world.questions import SUBSETS, Claim, falsified, is_usual, parse_claim, truth
from datamodules.toy_world.render import USUAL_GROUPS, Thing, draw_scene, render
from datamodules.toy_world.rows import Mixture, preference_row
from datamodules.video.codec import decode_frames
from tests.datamodules.toy_world.test_toy_world import seen, video_of

FACTS = ("relation", "temporal", "detail")


def test_the_usual_of_each_colour_is_as_documented() -> None:
    usual = Claim(Thing("green", "circle"), "left", "top", "after", Thing("red", "square"))
    assert [is_usual(usual, subset) for subset in SUBSETS] == [None, True, True, True]
    other_group = Claim(Thing("yellow", "circle"), "left", "top", "after", Thing("white", "square"))
    assert [is_usual(other_group, subset) for subset in FACTS] == [False, False, False]
    assert is_usual(Claim(Thing("yellow", "circle"), "right", "top"), "temporal") is None


@pytest.mark.parametrize("prior", [0.0, 0.5, 0.9, 1.0])
def test_facts_are_as_usual_as_often_as_the_prior_says_each_by_itself(prior: float) -> None:
    rng = random.Random(1)
    claims = [truth(draw_scene(rng, prior=prior), index % 2) for index in range(2000)]
    usual = np.array([[is_usual(claim, subset) for subset in FACTS] for claim in claims], dtype=float)
    assert usual.mean(axis=0) == pytest.approx(np.full(3, prior), abs=0.04)
    if 0 < prior < 1:
        between = np.corrcoef(usual.T)[np.triu_indices(3, 1)]
        assert abs(between).max() < 0.08
    groups = [{claim.thing.color, claim.other.color} for claim in claims if claim.other]
    assert all(any(colors <= set(group) for group in USUAL_GROUPS) for colors in groups)


def test_counter_prior_facts_are_shown_by_the_video() -> None:
    scene = draw_scene(random.Random(5), prior=0.0)
    assert not any(is_usual(truth(scene, event), subset) for event in range(2) for subset in FACTS)
    assert seen(video_of(scene)) == [truth(scene, event) for event in range(2)]


def test_a_false_claim_of_a_usual_fact_is_unusual() -> None:
    rng = random.Random(2)
    for _ in range(50):
        claim = truth(draw_scene(rng, prior=0.5), 0)
        for subset in FACTS:
            assert is_usual(falsified(claim, subset, rng), subset) is not is_usual(claim, subset)


def test_claims_are_read_from_answers() -> None:
    rng = random.Random(3)
    for subset in SUBSETS:
        scene = draw_scene(rng, prior=0.9)
        row = preference_row(scene, "toy", subset, rng, 0.9)
        assert parse_claim(row.chosen) in [truth(scene, 0), truth(scene, 1)]
        assert str(parse_claim(row.rejected)) in row.rejected
    assert parse_claim("Yes.") is None
    assert parse_claim("the red circle moves left at the middle before the blue square") is None


def test_no_share_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prior is 1\.5"):
        draw_scene(random.Random(0), prior=1.5)
    with pytest.raises(ValueError, match=r"prior is -1"):
        prepare_toy(str(tmp_path / "train"), num_videos=4, prior=-1)
    with pytest.raises(ValueError, match=r"mixture\.other_video is 2"):
        Mixture(other_video=2)


def rows_and_videos(path: Path) -> list[tuple[dict[str, str], bytes]]:
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    keys = [name.removesuffix(".json") for name in members if name.endswith(".json")]
    return [(json.loads(members[f"{key}.json"]), members[f"{key}.mp4"]) for key in keys]


def test_splits_have_their_priors_and_tests_are_balanced(tmp_path: Path) -> None:
    prepare_toy(str(tmp_path / "train"), "train", num_videos=64, samples_per_shard=64)
    claims = [parse_claim(row["chosen"]) for row, _ in rows_and_videos(tmp_path / "train-000000.tar")]
    usual = [is_usual(claim, subset) for claim in claims if claim for subset in FACTS]
    assert 0.8 < np.mean(np.array(usual, dtype=float)) < 1

    prepare_toy(str(tmp_path / "test"), "test", num_videos=120)
    pairs = {subset: json.loads((tmp_path / "test" / f"{subset}.json").read_text()) for subset in SUBSETS}
    assert {pair["usual"] for pair in pairs["object"]} == {None}
    balanced = [pair["usual"] for subset in FACTS for pair in pairs[subset]]
    assert 0.3 < np.mean(balanced) < 0.7


@pytest.mark.parametrize(("other_video", "least", "most"), [(0.0, 8, 8), (1.0, 0, 2)])
def test_rows_show_another_video_as_often_as_asked(tmp_path: Path, other_video: float, least: int, most: int) -> None:
    mixture = Mixture(yes_no=0, reasoned=0, lookup=0, report=0, caption=1, other_video=other_video, questions=1)
    prepare_toy(str(tmp_path / "pre"), "pretrain", num_videos=8, mixture=mixture)
    right = 0
    for row, video in rows_and_videos(tmp_path / "pre-000000.tar"):
        claims = seen(decode_frames(video, range(16)))
        shown = [f"{claim.thing} moves {claim.direction} at the {claim.place}" for claim in claims]
        right += all(clause in row["chosen"] for clause in shown)
    # Another video may show the same by chance.
    assert least <= right <= most


def test_without_a_prior_all_colours_meet() -> None:
    rng = random.Random(0)
    together = {frozenset(event.thing.color for event in draw_scene(rng).events) for _ in range(300)}
    assert len(together) == 15
    assert render(draw_scene(rng)).shape == (16, 48, 48, 3)


def test_slow_things_go_a_quarter_of_their_way_and_say_the_same(tmp_path: Path) -> None:
    for seed in range(20):
        fast, slow = (draw_scene(random.Random(seed), prior=0.9, slow=share) for share in (0.0, 1.0))
        assert [truth(slow, event) for event in range(2)] == [truth(fast, event) for event in range(2)]
        for whole, part in zip(fast.events, slow.events, strict=True):
            assert part.last_x - part.first_x == pytest.approx((whole.last_x - whole.first_x) / 4)
            assert min(whole.first_x, whole.last_x) <= min(part.first_x, part.last_x)
    with pytest.raises(ValueError, match="slow is 2"):
        draw_scene(random.Random(0), slow=2)


def test_longer_events_have_more_frames_and_boxes(tmp_path: Path) -> None:
    scene = draw_scene(random.Random(4), prior=0.9, event_frames=16)
    assert render(scene).shape[0] == scene.facts.frames == 32
    assert seen(video_of(scene)) == [truth(scene, event) for event in range(2)]
    assert len(scene.boxes(1)) == 16
    assert scene.span(1) == (2.0, 4.0)
    prepare_toy(str(tmp_path / "long"), num_videos=1, event_frames=16)
    ((row, video),) = rows_and_videos(tmp_path / "long-000000.tar")
    assert row["video"]["frames"] == 32  # type: ignore[index]
    assert len(decode_frames(video, range(32))) == 32
    with pytest.raises(ValueError, match="event_frames is 1"):
        draw_scene(random.Random(0), event_frames=1)
