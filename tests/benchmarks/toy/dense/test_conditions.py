"""The conditions of the study: their arithmetic, on made-up measures, and the world in which prompts name the speed."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.toy.dense.conditions import (
    Condition,
    conditions_table,
    decided_shares,
    main,
    motion_conditions,
    preferred_motion,
    shared_motion,
)
from benchmarks.toy.dense.pair_measures import PairMeasures, measured_pairs
from benchmarks.toy.dense.pair_measures import main as measure_command
from datamodules.dense.rows import PairRow
from datamodules.schemas import write_shards
from datamodules.toy_world.motion_measures import measure
from datamodules.toy_world.motion_world import SPEEDS, MotionScene, draw_motion_scene, render_motion
from datamodules.video.codec import encode_mp4
from tests.support.flow_shards import pair_row, pair_sample


def pairs(
    count: int = 400, shared: float = 0.0, cost: float = 0.05, between: float = 0.0, seed: int = 0
) -> PairMeasures:
    """Pairs whose motions share a part, whose artifacts grow with motion, and whose seconds' leads share a part."""
    draws = np.random.default_rng(seed)
    common = draws.exponential(1.0, (count, 1))
    speeds = shared * common + (1 - shared) * draws.exponential(1.0, (count, 2))
    noise = 0.02 * (between * draws.normal(size=(count, 2, 1)) + (1 - between) * draws.normal(size=(count, 2, 4)))
    return PairMeasures([f"p{index}" for index in range(count)], speeds, 0.95 - cost * speeds[..., None] + noise)


INDEPENDENT, GUIDED = pairs(), pairs(shared=0.95, cost=0.02)


def values(conditions: list[Condition]) -> dict[str, Condition]:
    return {f"{item.name} {item.text}": item for item in conditions}


def failing(independent: PairMeasures = INDEPENDENT, guided: PairMeasures = GUIDED) -> list[str]:
    return [item.name for item in motion_conditions(independent, guided) if not item.holds]


def test_pairs_with_the_papers_mechanism_hold_every_condition() -> None:
    conditions = motion_conditions(INDEPENDENT, GUIDED)
    assert [item.name for item in conditions] == ["C1", "C2", "C3", "C4", "C4", "C5", "C5", "C5"]
    assert all(item.holds for item in conditions), conditions
    assert [item.paper for item in conditions if item.paper] == ["> 0.8", "> 0.6"]
    text = conditions_table(conditions).markdown()
    assert "| C5 guided pairs: share with seconds won by either |" in text
    assert " | > 0.4 | yes | > 0.6 |" in text


def test_each_condition_fails_where_its_mechanism_is_missing() -> None:
    # Prompts that name the speed: two samples move alike.
    assert "C1" in failing(independent=pairs(shared=0.9))
    # Artifacts do not grow with motion, and the better of two is no stiller.
    assert failing(independent=pairs(cost=0.0, seed=6))[-1] == "C3"
    assert failing(independent=pairs(cost=-0.05)) == ["C2", "C3"]
    # Guided pairs that have lost the video's motion.
    assert failing(guided=pairs(cost=0.02))[:2] == ["C4", "C4"]
    # Seconds that are won together.
    assert "C5" in failing(guided=pairs(shared=0.95, cost=0.0, between=0.9))
    # Ties everywhere.
    assert failing(guided=replace(GUIDED, qualities=0.95 + 1e-3 * (GUIDED.qualities - 0.95))) == ["C5", "C5"]


def test_the_figures_are_those_of_their_definitions() -> None:
    speeds = np.array([[1.0, 2.0], [3.0, 1.0], [2.0, 2.5], [0.5, 0.0]])
    qualities = np.zeros((4, 2, 2))
    #              seconds of the first - of the second: (+, -), (-, -), (+, 0), (0, 0)
    qualities[:, 0] = [[0.1, -0.1], [-0.1, -0.1], [0.1, 0.0], [0.0, 0.004]]
    measures = PairMeasures(["a", "b", "c", "d"], speeds, qualities)
    assert shared_motion(measures) == pytest.approx(np.corrcoef([1, 3, 2, 0.5], [2, 1, 2.5, 0])[0, 1])
    # Leads as a whole: 0 (nobody's), -0.1 (the second, 2 slower), +0.05 (the first, 0.5 slower), +0.002 (0.5 faster).
    assert preferred_motion(measures) == pytest.approx((0 - 2.0 - 0.5 + 0.5) / 4 / speeds.std(ddof=1))
    assert decided_shares(measures, 0.005) == (0.5, 0.75, 0.25)
    assert decided_shares(measures, 0.001) == (0.75, 1.0, 0.25)
    # Artifacts of the four videos slower than 1.5 pixels per frame, and of the four faster ones.
    slow, fast = np.mean([1.0, 1.0, 0.998, 1.0]), np.mean([1.0, 1.1, 0.95, 1.0])
    assert motion_conditions(measures, measures)[1].value == pytest.approx(fast / slow - 1)


def test_measures_are_stored_and_read(tmp_path: Path) -> None:
    GUIDED.write(tmp_path / "measures.json")
    read = PairMeasures.read(tmp_path / "measures.json")
    assert read.keys == GUIDED.keys
    assert np.allclose(read.speeds, GUIDED.speeds, atol=1e-6)
    assert np.allclose(read.qualities, GUIDED.qualities, atol=1e-6)


def shards(folder: Path, scenes: list[tuple[MotionScene, MotionScene]]) -> str:
    """Pairs whose videos are rendered, and whose prompt is that of the first."""
    samples = []
    for index, (first, second) in enumerate(scenes):
        row = pair_row(f"p{index:02d}")
        row = PairRow(**{**{name: getattr(row, name) for name in row.__slots__}, "prompt": str(first.motion)})
        key, members = pair_sample(row)
        videos = {
            f"{side}.mp4": encode_mp4(render_motion(scene), 8.0, True)
            for side, scene in (("first", first), ("second", second))
        }
        samples.append((key, members | videos))
    write_shards(samples, folder / "pairs", "vidpref/pairs")
    return f"{folder / 'pairs'}.index.json"


def test_speed_in_the_prompts_fails_the_first_condition() -> None:
    for named in (False, True):
        speeds = []
        for index in range(9):
            # What a faithful model makes of a prompt: the speed where it is named, else any.
            given = SPEEDS[index % 3] if named else None
            scenes = [draw_motion_scene(random.Random(2 * index + side), given) for side in (0, 1)]
            videos = [torch.from_numpy(render_motion(scene)).permute(0, 3, 1, 2) for scene in scenes]
            measures = [measure(video, scene.motion) for video, scene in zip(videos, scenes, strict=True)]
            speeds.append([side.speed for side in measures])
        drawn = PairMeasures([f"p{index}" for index in range(9)], np.array(speeds), INDEPENDENT.qualities[:9])
        condition = motion_conditions(drawn, GUIDED)[0]
        assert condition.name == "C1"
        assert condition.holds is not named, condition.value
        assert condition.value > 0.9 or not named


def test_the_commands_measure_and_say_by_their_status_whether_conditions_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = [draw_motion_scene(random.Random(seed)) for seed in range(4)]
    index = shards(tmp_path, [(scene, scene) for scene in drawn])
    measure_command([index, str(tmp_path / "measures.json")])
    measures = PairMeasures.read(tmp_path / "measures.json")
    assert measures.keys == ["p00", "p01", "p02", "p03"]
    assert measures.speeds[:, 0] == pytest.approx([scene.speed for scene in drawn], abs=0.13)
    assert (measures.speeds[:, 0] == measures.speeds[:, 1]).all()
    assert len(measured_pairs(index, limit=2).keys) == 2
    with np.errstate(all="ignore"):
        assert main([index, index, "--limit", "3"]) == 1
    assert "C1" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none.index.json"), index])
