"""The shipped toy checkpoint answers from its language prior though it sees: its conditions, and the benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import vidpref
from benchmarks.toy.vista.conditions import BALANCED, CHECKPOINT, NATURAL, main
from datamodules.prepare.verify import verify
from datamodules.toy_world.questions import SUBSETS, is_usual, parse_claim
from datamodules.vista.samples import PreferenceRow
from tests.datamodules.prepare.test_toy import rows_of
from tests.support.paths import ROOT


def test_it_is_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 2_000_000
    with safe_open(CHECKPOINT / "model.safetensors", "pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    assert 400_000 < sum(int(np.prod(shape)) for shape in shapes) < 1_000_000


@pytest.mark.parametrize(("index", "least", "most"), [(NATURAL, 0.85, 0.95), (BALANCED, 0.4, 0.6)])
def test_the_fixed_rows_are_sound_and_have_their_prior(index: Path, least: float, most: float) -> None:
    assert verify(str(index)) == []
    rows: list[PreferenceRow] = rows_of(index)
    claims = [parse_claim(row.chosen) for row in rows]
    usual = [is_usual(claim, subset) for claim in claims if claim for subset in SUBSETS if subset != "object"]
    assert len(rows) == 160
    assert least < np.mean(np.array(usual, dtype=float)) < most


@pytest.mark.slow
def test_the_conditions_hold_on_the_fixed_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    table = capsys.readouterr().out
    assert table.count("| yes |") == 7
    assert "**no**" not in table
    assert "linear probe of the projected frames: direction" in table


@pytest.mark.slow
def test_by_the_benchmark_it_answers_what_is_usual(tmp_path: Path) -> None:
    questions, output = tmp_path / "questions", tmp_path / "results"
    prepared = ["prepare", "toy", str(questions), "--split", "test", "--num_videos", "300", "--seed", "7"]
    assert vidpref.main(prepared) == 0
    command = ["test", "--config", str(ROOT / "configs/benchmarks/toy_hallucer.yaml")]
    command += ["--model.policy.path", str(CHECKPOINT), "--model.output", str(output)]
    command += ["--data.questions", str(questions), "--data.videos", str(questions / "videos")]
    command += ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.enable_progress_bar", "false"]
    assert vidpref.main(command) == 0
    margins: dict[bool, list[float]] = {True: [], False: []}
    for subset in SUBSETS:
        for pair in json.loads((output / f"{subset}_base.json").read_text()):
            if pair["usual"] is not None:
                margins[pair["usual"]].append(pair["basic"]["margin"] - pair["hallucination"]["margin"])
    # A usual fact is affirmed before its opposite, a counter-prior one after it.
    assert np.mean(np.array(margins[True]) > 0) > 0.9
    assert np.mean(np.array(margins[False]) > 0) < 0.3
