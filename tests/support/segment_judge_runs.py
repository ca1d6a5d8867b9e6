"""One run of `SegmentJudge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from callbacks.writers.shards import ShardWriter
from datamodules.dense.pair_videos import PairVideos
from lightning_modules.judges.base import Judge
from lightning_modules.predict.segment_judge import SegmentJudge
from tests.support.quiet_trainer import quiet_trainer


def label(pairs: str, output: Path, judge: Judge, data: dict[str, Any] | None = None, **settings: Any) -> SegmentJudge:
    module = SegmentJudge(judge, **settings)
    trainer = quiet_trainer(inference_mode=False, default_root_dir=output.parent, callbacks=[ShardWriter(str(output))])
    trainer.predict(module, datamodule=PairVideos(pairs, **(data or {})))
    return module
