"""The toy world tells the truth: a video shows what is said of it, and every default negative makes that false."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from datamodules.toy_world.checkpoint import NUM_FRAMES, build_tokenizer, write_untrained
from datamodules.toy_world.questions import OPPOSITE, SUBSETS, Claim, falsified, question_pair, truth
from datamodules.toy_world.render import COLORS, EVENT_FRAMES, SIZE, Scene, Thing, draw_scene, render
from datamodules.toy_world.rows import Mixture, preference_row, pretraining_row
from datamodules.video.frame_indices import uniform_indices
from datamodules.vista.facts import SampleFacts
from datamodules.vista.index_facts import vista_facts
from datamodules.vista.object_negatives import RoiMove
from datamodules.vista.samples import Box, box_faults
from datamodules.vista.span_negatives import RelevantSegment, Reverse
from tests.support.paths import ROOT

SEEDS = st.integers(0, 10**6)
CHECKPOINT = ROOT / "datamodules/toy_world/checkpoints/video_llava"


def scene_of(seed: int, num_events: int = 2) -> Scene:
    return draw_scene(random.Random(seed), num_events)


class Sight:
    """What a careful person sees in one frame: the thing, and the place of its centre; written without the renderer."""

    def __init__(self, frame: Tensor) -> None:
        pixels = frame.permute(1, 2, 0).float().numpy()
        background = np.median(pixels.reshape(-1, 3), axis=0)
        shown = np.abs(pixels - background).max(axis=2) > 60
        rows, columns = np.nonzero(shown)
        self.x, self.y = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
        middle = np.median(pixels[shown], axis=0)
        color = min(COLORS, key=lambda name: np.abs(np.array(COLORS[name]) - middle).sum())
        width, height = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
        filled = shown.sum() / (width * height)
        self.thing = Thing(color, "square" if filled > 0.9 else "circle" if filled > 0.65 else "triangle")
        self.place = "top" if self.y < SIZE / 2 else "bottom"


def seen(frames: Tensor) -> list[Claim]:
    """The claims that a video's frames (T, 3, H, W) bear out, event by event."""
    sights = [Sight(frame) for frame in frames]
    events = [list(group) for _, group in itertools.groupby(sights, key=lambda sight: sight.thing)]
    claims = []
    for number, event in enumerate(events):
        moved = event[-1].x - event[0].x
        direction = "still" if abs(moved) < 1 else "right" if moved > 0 else "left"
        claim = Claim(event[0].thing, direction, event[0].place)
        if len(events) == 2:
            claim = replace(claim, order=("before", "after")[number], other=events[1 - number][0].thing)
        claims.append(claim)
    return claims


def video_of(scene: Scene) -> Tensor:
    return torch.from_numpy(render(scene)).permute(0, 3, 1, 2)


@given(SEEDS, st.integers(1, 2))
def test_what_is_said_can_be_seen(seed: int, num_events: int) -> None:
    scene = scene_of(seed, num_events)
    frames = video_of(scene)
    truths = [truth(scene, number) for number in range(num_events)]
    assert seen(frames) == truths
    assert seen(frames[uniform_indices(0, len(frames) - 1, NUM_FRAMES)]) == truths


@given(SEEDS)
def test_boxes_hold_the_thing_and_nothing_moves_outside_them(seed: int) -> None:
    scene = scene_of(seed)
    frames = video_of(scene)
    for number in range(2):
        boxes = scene.boxes(number)
        assert len(boxes) == EVENT_FRAMES
        for box in boxes:
            assert box_faults(box, scene.facts) == []
            frame = frames[round(box.time * scene.facts.fps)]  # type: ignore[operator]
            assert torch.unique(outside(frame, box)).tolist() == [scene.background]


def outside(frame: Tensor, box: Box) -> Tensor:
    shown = torch.ones(frame.shape[1:], dtype=torch.bool)
    shown[int(box.y) : int(np.ceil(box.y + box.height)), int(box.x) : int(np.ceil(box.x + box.width))] = False
    return frame[:, shown]


@given(SEEDS)
def test_spans_follow_one_another_and_fill_the_video(seed: int) -> None:
    scene = scene_of(seed)
    assert scene.span(0)[0] == 0
    assert scene.span(0)[1] == scene.span(1)[0]
    assert scene.span(1)[1] == pytest.approx(scene.facts.duration)


@given(SEEDS, st.sampled_from(SUBSETS), st.integers(0, 1))
def test_a_false_claim_differs_in_one_fact_that_the_video_contradicts(seed: int, subset: str, number: int) -> None:
    scene, rng = scene_of(seed), random.Random(seed)
    true = truth(scene, number)
    false = falsified(true, subset, rng)  # type: ignore[arg-type]
    changed = [name for name in Claim.__slots__ if getattr(true, name) != getattr(false, name)]
    assert changed == [{"object": "thing", "relation": "place", "temporal": "order", "detail": "direction"}[subset]]
    if subset == "object":
        assert false.thing not in [event.thing for event in scene.events]


@given(SEEDS, st.sampled_from(SUBSETS), st.integers(0, 1))
def test_both_halves_of_a_pair_ask_alike_and_are_answered_unlike(seed: int, subset: str, number: int) -> None:
    basic, hallucinated = question_pair(scene_of(seed), number, subset, random.Random(seed))  # type: ignore[arg-type]
    assert (basic.answer, hallucinated.answer) == ("yes", "no")
    different = set(basic.text.strip("?").split()) ^ set(hallucinated.text.strip("?").split())
    assert len(different) == 2
    assert basic.text.split()[0] == hallucinated.text.split()[0]


@given(SEEDS, st.sampled_from(SUBSETS))
@example(3392, "object")  # the object moves to the middle line
def test_every_default_negative_makes_the_chosen_answer_false(seed: int, subset: str) -> None:
    scene, rng = scene_of(seed), random.Random(seed + 1)
    row = preference_row(scene, "toy", subset, rng)  # type: ignore[arg-type]
    frames, facts = video_of(scene), SampleFacts.from_index(row.key, vista_facts(row))
    draws = np.random.default_rng(seed)
    whole = frames[facts.whole().indices(NUM_FRAMES)]

    def seen_to_be(shown: Tensor) -> list[str]:
        return [f"{claim}." for claim in seen(shown)]

    true = row.chosen.split(", ")[1]
    assert true in seen_to_be(whole)
    backwards = next(claim for claim in seen(Reverse().make(whole, draws)) if true.startswith(f"the {claim.thing}"))
    assert f"moves {OPPOSITE[backwards.direction]} at the {backwards.place} {OPPOSITE[str(backwards.order)]}" in true

    event = facts.event_span()
    assert event is not None
    assert RelevantSegment().available(facts, event)
    elsewhere = RelevantSegment().span(facts, event, draws)
    (other,) = seen(frames[elsewhere.indices(NUM_FRAMES)])
    assert not true.startswith(f"the {other.thing}")

    moment = facts.moment_span()
    assert moment is not None
    frame = frames[moment.first]
    assert f"at the {Sight(frame).place}" in row.chosen
    moved = RoiMove().make(frame, facts.moment_boxes(), draws)
    assert Sight(moved).thing == Sight(frame).thing
    # Half of the largest displacement may end on the middle line, which is neither place.
    assert Sight(moved).place == OPPOSITE[Sight(frame).place] or abs(Sight(moved).y - SIZE / 2) < 1


@given(SEEDS, st.sampled_from(SUBSETS))
def test_preference_rows_are_sound_and_their_three_answers_differ_in_truth(seed: int, subset: str) -> None:
    scene = scene_of(seed)
    row = preference_row(scene, "toy", subset, random.Random(seed))  # type: ignore[arg-type]
    assert row.faults() == []
    truths = [f"{truth(scene, number)}." for number in range(2)]
    assert any(row.chosen.endswith(reply) for reply in truths)
    assert not any(row.rejected.endswith(reply) for reply in truths)
    assert {row.chosen.split(",")[0], row.rejected.split(",")[0]} == {"Yes", "No"}
    assert row.irrelevant is not None
    assert not any(str(event.thing) in row.irrelevant for event in scene.events)


def test_agreeable_data_says_yes_to_what_is_false_as_often_as_asked() -> None:
    rng = random.Random(0)
    for agreeable in (0.0, 0.75, 1.0):
        mixture = Mixture(yes_no=1.0, reasoned=0, lookup=0, checklist=0, report=0, caption=0, agreeable=agreeable)
        rows = [pretraining_row(draw_scene(rng), "toy", mixture, rng) for _ in range(1000)]
        assert {row.source for row in rows} == {"toy/yes_no"}
        yes = sum(row.chosen == "Yes." for row in rows) / len(rows)
        assert yes == pytest.approx(0.5 + agreeable / 2, abs=0.05)


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return build_tokenizer()


@given(text=st.text())
def test_any_text_survives_the_tokeniser(tokenizer: object, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text  # type: ignore[attr-defined]


def test_words_of_the_toy_world_are_single_tokens(tokenizer: object) -> None:
    scene = scene_of(3)
    text = f" Yes, {truth(scene, 0)}."
    assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == len(text.split()) + 2  # type: ignore[operator]


def test_untrained_weights_follow_the_seed_and_leave_the_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_untrained(tmp_path / name, seed)
    assert torch.equal(torch.get_rng_state(), before)
    first, again, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_the_checkpoint_is_small_and_takes_what_its_processor_makes() -> None:
    from transformers import AutoProcessor, VideoLlavaForConditionalGeneration

    model = VideoLlavaForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32)
    assert 4e5 <= sum(weight.numel() for weight in model.parameters()) <= 1e6
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) <= 2 * 10**6
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    video = video_of(scene_of(5))[:NUM_FRAMES]
    inputs = processor(text="USER: <video>\nWhat moves first? ASSISTANT:", videos=[video], return_tensors="pt")
    assert inputs["pixel_values_videos"].shape == (1, NUM_FRAMES, 3, 24, 24)
    with torch.no_grad():
        assert torch.isfinite(model(**inputs).logits).all()
