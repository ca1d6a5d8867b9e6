"""What two ranks make by need is what one rank makes, in whatever shares, and after a rank was killed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from torch.multiprocessing import ProcessExitedException

from callbacks.writers.parts import read_samples
from callbacks.writers.shards import ShardWriter
from datamodules.stream.hand_out import HandOutMode
from tests.support.kills import contents
from tests.support.quiet_trainer import quiet_trainer
from tests.support.shard_samples import small_shards
from tests.support.uneven_ranks import KeyData, UnevenMaker

pytestmark = pytest.mark.slow
COUNT = 24


def predict(folder: Path, name: str, ranks: int, maker: UnevenMaker, mode: HandOutMode = "by_need") -> None:
    trainer = quiet_trainer(
        callbacks=[ShardWriter(str(folder / name / "out"), samples_per_shard=5)],
        devices=ranks,
        strategy="ddp_spawn" if ranks > 1 else "auto",
        use_distributed_sampler=False,
    )
    data = KeyData(
        str(folder / "train.index.json"), num_workers=ranks - 1, multiprocessing_context="fork", hand_out=mode
    )
    trainer.predict(maker, data, return_predictions=False)


def maker(folder: Path, name: str, behind: int = 0, dies: bool = False) -> UnevenMaker:
    (folder / name).mkdir()
    return UnevenMaker(folder / name, behind, dies)


def test_a_slow_rank_makes_fewer_samples_and_a_killed_one_loses_none(tmp_path: Path) -> None:
    keys = [entry.key for entry in small_shards(tmp_path, COUNT).entries]
    predict(tmp_path, "one rank", 1, maker(tmp_path, "made"))

    uneven = maker(tmp_path, "made by need", behind=18)
    predict(tmp_path, "by need", 2, uneven)
    fast, slow = uneven.made_by(0), uneven.made_by(1)
    assert Counter(fast + slow) == Counter(keys), "each once"
    assert len(fast) >= 18
    assert slow
    assert contents(tmp_path / "by need") == contents(tmp_path / "one rank")

    killed = maker(tmp_path, "made before", behind=8, dies=True)
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        predict(tmp_path, "killed", 2, killed)
    finished = set(read_samples(tmp_path / "killed/out.parts", "vidpref/side").index.positions)
    assert finished >= set(killed.made_by(0)[:8])
    assert len(finished) < COUNT, "what rank 1 had taken is not there"

    continued = maker(tmp_path, "made after")
    predict(tmp_path, "killed", 2, continued, mode="equal_shares")
    made = continued.made_by(0) + continued.made_by(1)
    assert Counter(made) == Counter(key for key in keys if key not in finished)
    assert contents(tmp_path / "killed") == contents(tmp_path / "one rank")
