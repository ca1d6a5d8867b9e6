"""Pairs made by two processes, killed and continued, are those that one process makes, and none is made twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from callbacks.stop_signals import STOPPED
from callbacks.writers.parts import read_samples
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.video.codec import encode_mp4
from tests.support.paths import ROOT
from tests.support.predict_fakes import MemoryVideos
from tests.support.tiny_wan import random_video, write_tiny_wan

pytestmark = pytest.mark.slow
KEYS = [f"video-{number}" for number in range(7)]


def write_videos(output: Path) -> None:
    source = MemoryVideos({key: random_video(5, 16, 16, seed=number) for number, key in enumerate(KEYS)})
    write_shards(
        (
            (key, {"mp4": encode_mp4(frames, 8.0), "json": json.dumps(source.row(key).to_json()).encode()})
            for key, frames in source.videos.items()
        ),
        output,
        "vidpref/videos",
    )


def predict(folder: Path, name: str, devices: int, *flags: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "model.policy.path": "tiny",
        "model.policy.dtype": "float32",
        "model.policy.prompt_length": 32,
        "model.num_steps": 4,
        "data.predict": "videos.index.json",
        "data.num_workers": 0,
        "trainer.callbacks.output": f"{name}/pairs",
        "trainer.callbacks.samples_per_shard": 3,
        "trainer.default_root_dir": name,
        "trainer.accelerator": "cpu",
        "trainer.devices": devices,
        "trainer.strategy": "ddp" if devices > 1 else "auto",
    }
    command = [sys.executable, "-m", "vidpref", "predict", "--config", f"{ROOT}/configs/dense_dpo/guided_pairs.yaml"]
    command += [f"--{key}={value}" for key, value in settings.items()]
    command += [
        "--trainer.callbacks+=tests.support.predict_probes.DenoiseProbe",
        f"--trainer.callbacks.path={name}.jsonl",
        *flags,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # A session of its own, so that all its processes can be killed together.
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, start_new_session=True
    )


def calls(folder: Path, name: str) -> list[tuple[int, str]]:
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return [(line["rank"], key) for line in lines for key in line["keys"]]


def test_killed_and_continued_by_two_processes(tmp_path: Path) -> None:
    write_tiny_wan(tmp_path / "tiny")
    write_videos(tmp_path / "videos")
    whole = predict(tmp_path, "whole", 1)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "predict: 7 of 7 batches, left 0:00:00" in whole.stdout

    killed = predict(
        tmp_path,
        "broken",
        2,
        "--trainer.callbacks+=tests.support.predict_probes.KillAll",
        "--trainer.callbacks.batch=2",
        "--data.hand_out=equal_shares",  # by need the other rank might have made all others by then
    )
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    parts = tmp_path / "broken/pairs.parts"
    finished = set(read_samples(parts, "vidpref/pairs").index.positions)
    assert len(list(parts.glob("*.tar"))) <= 2, "one for each process"
    assert 2 <= len(finished) < len(KEYS)
    before = calls(tmp_path, "broken")

    continued = predict(tmp_path, "broken", 2)
    assert continued.returncode == 0, continued.stdout + continued.stderr
    again = calls(tmp_path, "broken")[len(before) :]
    assert "not by need" not in continued.stderr
    assert Counter(key for _, key in again) == Counter(key for key in KEYS if key not in finished)
    assert not parts.exists()
    index = Index.read(tmp_path / "broken/pairs.index.json")
    assert [entry.key for entry in index.entries] == KEYS
    assert index.fingerprint == Index.read(tmp_path / "whole/pairs.index.json").fingerprint, "to the last byte"


def test_a_signal_to_one_of_two_processes_stops_both_after_their_items(tmp_path: Path) -> None:
    write_tiny_wan(tmp_path / "tiny")
    write_videos(tmp_path / "videos")
    probe = ["--trainer.callbacks+=tests.support.predict_probes.StopRank", "--trainer.callbacks.rank=1"]
    stopped = predict(tmp_path, "run", 2, *probe, "--trainer.callbacks.batch=1", "--data.hand_out=equal_shares")
    assert stopped.returncode == STOPPED, stopped.stdout + stopped.stderr
    assert "stopped by SIGTERM after the item in hand. What is written stays" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    finished = set(read_samples(tmp_path / "run/pairs.parts", "vidpref/pairs").index.positions)
    assert {key for _, key in calls(tmp_path, "run")} == finished, "every item that was begun is written"
    assert 0 < len(finished) < len(KEYS)
    assert not (tmp_path / "run/.pairs.lock").exists()


def test_a_sharded_transformer_makes_the_same_pairs(tmp_path: Path) -> None:
    """Seven videos on two ranks, of different numbers of steps: without padding the ranks would wait for each other."""
    write_tiny_wan(tmp_path / "tiny")
    write_videos(tmp_path / "videos")
    made = {}
    overlay = [f"--config={ROOT}/configs/strategy/fsdp.yaml", "--trainer.strategy.param_dtype=null"]
    for name, devices, flags in (("whole", 1, []), ("sharded", 2, [*overlay, "--trainer.devices=2"])):
        done = predict(tmp_path, name, devices, "--model.num_steps=12", *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("not by need: under AdapterFSDP ranks may make each batch together" in done.stderr) == (devices == 2)
        made[name] = Index.read(tmp_path / f"{name}/pairs.index.json")
    steps = {entry.facts["sampler"]["steps"] for entry in made["whole"].entries}
    assert len(steps) > 1
    assert made["sharded"].fingerprint == made["whole"].fingerprint
