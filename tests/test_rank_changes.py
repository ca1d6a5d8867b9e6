"""A run that goes on with fewer ranks, other workers and other start methods reads each sample in its turn, once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from callbacks.stop_signals import STOPPED
from datamodules.shards.index import Index
from datamodules.stream.plan import TrainPlan
from tests.support.command_runs import fit, steps, write_uneven_shards
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

pytestmark = pytest.mark.slow
#: Eleven samples in steps of four: epochs end within a step. After six steps each was read twice, two a third time.
SAMPLES, STEP_SAMPLES, STEPS = 11, 4, 6
PROBES = "tests.support.run_probes"


def start(folder: Path, number: int, ranks: int, workers: int, method: str, *flags: str) -> tuple[int, str]:
    """Start or go on with the run; exit status and what it said."""
    micro_batches = 1 if ranks == STEP_SAMPLES else 2
    done = fit(
        folder,
        f"{ROOT}/configs/strategy/ddp.yaml",
        f"--trainer.devices={ranks}",
        f"--data.batch_size={STEP_SAMPLES // ranks // micro_batches}",
        f"--trainer.accumulate_grad_batches={micro_batches}",
        f"--data.num_workers={workers}",
        f"--data.multiprocessing_context={method}",
        "--trainer.default_root_dir=run",
        f"--trainer.max_steps={STEPS}",
        "--trainer.callbacks+=Recovery",
        "--trainer.callbacks.every_n_steps=1",
        f"--trainer.callbacks+={PROBES}.KeyProbe",
        f"--trainer.callbacks.path=keys-{number}.jsonl",
        *flags,
    )
    return done.returncode, done.stdout + done.stderr


def keys_by_step(path: Path) -> dict[int, list[str]]:
    """Optimizer step -> the keys of all ranks and micro-batches, of whole steps."""
    keys: dict[int, list[str]] = {}
    for line in steps(path):
        keys.setdefault(line["step"], []).extend(line["keys"])
    return {step: sorted(read) for step, read in keys.items() if len(read) >= STEP_SAMPLES}


def test_four_ranks_then_two_then_one(tmp_path: Path) -> None:
    """Stopped by the scheduler on four ranks, by a killed worker on two, finished on one."""
    save_tiny_video_llava(tmp_path / "tiny")
    index = Index.read(write_uneven_shards(tmp_path / "train", SAMPLES))
    plan = TrainPlan(shard_counts=index.shard_counts, batch_size=STEP_SAMPLES)
    expected = {
        step + 1: sorted(index.keys[slot.position] for slot in plan.batch(step * STEP_SAMPLES).slots)
        for step in range(STEPS)
    }

    terminate = (
        f"--trainer.callbacks+={PROBES}.SignalRank",
        "--trainer.callbacks.rank=-1",
        "--trainer.callbacks.step=2",
    )
    status, text = start(tmp_path, 1, 4, 0, "null", *terminate)
    assert status == STOPPED, text
    kill = (f"--trainer.callbacks+={PROBES}.KillWorker", "--trainer.callbacks.step=4")
    status, text = start(tmp_path, 2, 2, 2, "spawn", *kill)
    assert status not in (0, STOPPED), text
    assert re.search(r"^error.*: the data loader's worker .*kill.* The same command goes on", text, re.MULTILINE), text
    status, text = start(tmp_path, 3, 1, 2, "fork")
    assert status == 0, text

    starts = [keys_by_step(tmp_path / f"keys-{number}.jsonl") for number in (1, 2, 3)]
    for read in starts:  # whatever the ranks, workers and their start
        assert read == {step: expected[step] for step in read}
    assert (min(starts[0]), min(starts[1]), max(starts[2])) == (1, max(starts[0]) + 1, STEPS)
    assert 4 <= max(starts[1]) < STEPS
    # The last checkpoint may be of the step before the one in which the worker was lost; that one is made again.
    assert min(starts[2]) in (max(starts[1]), max(starts[1]) + 1)
    made = {step: keys for read in starts for step, keys in read.items()}
    counts = Counter(key for keys in made.values() for key in keys)
    assert sorted(counts) == sorted(index.keys), "nothing is lost"
    assert Counter(counts.values()) == {2: 9, 3: 2}, "nothing is read twice in an epoch"
