"""The command annotates toy videos, prepares shards of what was proposed, and these are near the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.toy.vista.annotation import score, table, write
from tests.support.answered_videos import read
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

FOLDER = "runs/toy/annotation"


def vidpref(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "vidpref", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_videos_and_questions_become_shards_whose_annotation_is_true(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    write(folder, 12, seed=1)
    (folder / "video-0005.mp4").write_bytes(b"no video")
    predict = ["predict", "--config", f"{ROOT}/configs/toy/annotate.yaml", "--trainer.enable_progress_bar=false"]
    refused = vidpref(tmp_path, *predict)
    assert refused.returncode == 1
    assert "row answered-000006, video" in refused.stderr
    assert "set data.on_bad_sample: skip to leave such rows out" in refused.stderr
    parts = (folder / "proposed.jsonl.parts").glob("*.jsonl")
    assert sum(len(path.read_text().splitlines()) for path in parts) == 5

    done = vidpref(tmp_path, *predict, "--data.on_bad_sample=skip", "--data.num_workers=1")
    assert done.returncode == 0, done.stderr
    assert "rows: 11 written, 1 left out, 1 of which unread\n  boxes: 11 kept\n  event: 11 kept\n" in done.stdout
    assert read(folder / "proposed.left_out.jsonl") == [{"key": "answered-000006", "why": "could not be read"}]
    bad = json.loads((tmp_path / "runs/toy/annotate/bad_samples.json").read_text())
    assert list(bad) == ["answered-000006"]

    prepared = vidpref(tmp_path, "prepare", "jsonl", f"{FOLDER}/proposed.jsonl", f"{FOLDER}/proposed")
    assert prepared.returncode == 0, prepared.stderr
    scores = score(folder, folder / "proposed.index.json")
    print(table(scores))
    assert (scores.rows, scores.with_boxes, scores.with_event, scores.false_answers) == (11, 1, 1, 1)
    assert scores.box_iou > 0.88
    assert scores.event_iou > 0.97
    assert scores.event_error < 0.05
