"""From shards to cached reference scores to training on them, with the real policy and the real data."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.reference.cache import ReferenceCache
from callbacks.reference.cache_writer import ReferenceCacheWriter
from callbacks.reference.model import ReferenceModel
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import Box, PreferenceRow
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.frames import FrameFit
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.vista_dpo import VistaDPO
from tests.support.pairs_harness import eleven_samples
from tests.support.preference_fakes import make_trainer
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_video_llava(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Five samples; of every second the event, the boxes and the irrelevant answer are unknown."""
    samples = []
    for number in range(5):
        frames = torch.randint(0, 256, (16, 32, 32, 3), generator=torch.Generator().manual_seed(number)).byte().numpy()
        known = number % 2 == 0
        row = PreferenceRow(
            key=f"s{number}",
            video_id=f"v{number}",
            question="what does it do",
            chosen=f"it turns {number} times",
            rejected="it stands",
            irrelevant="a cat" if known else None,
            video=VideoFacts(16, 8.0, 32, 32),
            event=(0.5, 1.0) if known else None,
            boxes=(Box(4, 4, 8, 8),) if known else (),
        )
        samples.append((row, {"mp4": encode_mp4(frames, 8.0)}))
    output = tmp_path_factory.mktemp("shards") / "train"
    write_shards([(row.key, members | {"json": row_json(row)}) for row, members in samples], output)
    return f"{output}.index.json"


def row_json(row: PreferenceRow) -> bytes:
    return json.dumps(row.to_json()).encode()


def vista(checkpoint: str, frame_fit: FrameFit = "processor") -> VistaDPO:
    policy = VideoLlavaPolicy(checkpoint, lora=LoraSettings(r=2, alpha=8), num_frames=NUM_FRAMES, frame_fit=frame_fit)
    return VistaDPO(policy, partial(torch.optim.SGD, lr=0.05), schedule="constant", warmup=0.0)


def fit(reference: ReferenceModel, checkpoint: str, data: VistaPairs) -> dict[str, torch.Tensor]:
    module = vista(checkpoint)
    torch.manual_seed(0)
    make_trainer([reference], steps=4).fit(module, data)
    return {name: parameter.detach() for name, parameter in module.trainable().items()}


def test_training_on_cached_scores_is_training_on_live_ones(checkpoint: str, shards: str, tmp_path: Path) -> None:
    def data(batch_size: int = 2, **settings: Any) -> VistaPairs:
        return VistaPairs(train=shards, val=shards, num_frames=NUM_FRAMES, batch_size=batch_size, seed=3, **settings)

    writer = ReferenceCacheWriter(str(tmp_path / "cache"))
    # Another batch size: what was scored alone must do for any batch.
    make_trainer([writer]).predict(vista(checkpoint), data(batch_size=1))
    cache = str(tmp_path / "cache.index.json")

    live = fit(ReferenceModel(), checkpoint, data())
    cached = fit(ReferenceModel("cached", cache), checkpoint, data())
    assert all(torch.allclose(live[name], cached[name], atol=1e-5) for name in live)
    assert any(parameter.abs().max() > 1e-3 for name, parameter in cached.items() if "lora_B" in name), (
        "something was learned"
    )

    with pytest.raises(ValueError, match="scores of other views: num_frames was 4, is 5"):
        fit(ReferenceModel("cached", cache), checkpoint, VistaPairs(train=shards, num_frames=5, seed=3))
    with pytest.raises(ValueError, match="cannot be cached while"):
        fit(ReferenceModel("cached", cache), checkpoint, data(resample_each_epoch=True))


def test_scores_of_frames_that_met_the_tower_otherwise_are_refused(checkpoint: str, tmp_path: Path) -> None:
    shards = str(eleven_samples(tmp_path))  # 48 x 32, of which the processor leaves columns 8 to 39

    def data() -> VistaPairs:
        return VistaPairs(train=shards, num_frames=NUM_FRAMES, batch_size=11, seed=3)

    make_trainer([ReferenceCacheWriter(str(tmp_path / "cache"))]).predict(vista(checkpoint), data())
    cache = str(tmp_path / "cache.index.json")
    made_from = ReferenceCache(cache).index.made_from
    assert made_from["negatives"]["object"]["visible"] == {"48x32": [8, 0, 40, 32]}
    fit(ReferenceModel("cached", cache), checkpoint, data())
    for other in ("squash", "pad"):
        with pytest.raises(ValueError, match=f'scores of other views: .*frame_fit was not there, is "{other}"'):
            make_trainer([ReferenceModel("cached", cache)]).fit(vista(checkpoint, other), data())


def test_an_interrupted_pass_scores_only_what_is_left(checkpoint: str, shards: str, tmp_path: Path) -> None:
    class Seen(Callback):
        def __init__(self, stop: bool) -> None:
            self.stop = stop
            self.keys: list[str] = []

        def on_predict_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
            if self.stop and self.keys:
                raise KeyboardInterrupt
            self.keys += [key for key, real in zip(batch.keys, batch.mask, strict=True) if real]

    def score(name: str, stop: bool = False) -> list[str]:
        seen = Seen(stop)
        trainer = make_trainer([ReferenceCacheWriter(str(tmp_path / name)), seen])
        with contextlib.suppress(SystemExit):
            trainer.predict(vista(checkpoint), VistaPairs(train=shards, num_frames=NUM_FRAMES, batch_size=2, seed=3))
        return seen.keys

    assert score("whole") == [f"s{number}" for number in range(5)]
    assert score("broken", stop=True) == ["s0", "s1"]
    assert score("broken") == ["s2", "s3", "s4"]
    assert score("broken") == []
    whole, broken = (tmp_path / f"{name}.index.json" for name in ("whole", "broken"))
    assert Index.read(broken).fingerprint == Index.read(whole).fingerprint, "to the last byte"
    assert Index.read(broken).made_from["policy"]["contents"].keys() == {"path"}
