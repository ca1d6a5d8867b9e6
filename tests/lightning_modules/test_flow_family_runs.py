"""Every video diffusion family from real videos to a trained adapter and a sampled video."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from lightning.pytorch import Callback

from callbacks.adapter_export import AdapterExport
from callbacks.reference.model import ReferenceModel
from callbacks.writers.shards import ShardWriter
from callbacks.writers.video_folder import VideoFolderWriter
from datamodules.dense.batches import PairBatch
from datamodules.dense.dense_pairs import DensePairs
from datamodules.dense.facts import pair_row
from datamodules.dense.latents import Latents
from datamodules.dense.prompts import Prompts
from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from datamodules.video.codec import probe
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.predict.guided_sampler import GuidedSampler
from lightning_modules.predict.video_encoder import VideoEncoder
from lightning_modules.predict.video_sampler import VideoSampler
from lightning_modules.supervised_flow import SupervisedFlow
from tests.support.flow_shards import write_labels
from tests.support.predict_fakes import MemoryVideos, predict, trainer_with
from tests.support.tiny_flows import FAMILIES, FPS, Family

pytestmark = pytest.mark.slow


class Noted(Callback):
    """Keeps the batches and losses of a fit."""

    def __init__(self) -> None:
        self.batches: list[PairBatch] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        self.losses.append(float(outputs["loss"]))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def checkpoint(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family.save(tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def policy(family: Family, checkpoint: Path) -> Any:
    return family.build(checkpoint)


@pytest.fixture(scope="module")
def pairs(family: Family, policy: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two guided pairs, in the family's own noise levels, stored in half the space."""
    folder = tmp_path_factory.mktemp("pairs")
    videos = MemoryVideos({key: family.video(seed) for seed, key in enumerate("ab")}, fps=FPS)
    sampler = GuidedSampler(policy, num_steps=3, flow_shift=None, guidance_scale=2.0, store_clean=True,
                            denoise_rows=2, store_dtype="bfloat16")  # fmt: skip
    predict(ShardWriter(str(folder / "pairs")), sampler, videos)
    return f"{folder}/pairs.index.json"


def fit(module: Any, data: Any, folder: Path, *callbacks: Callback) -> Noted:
    noted = Noted()
    trainer = trainer_with([noted, *callbacks], max_steps=2, default_root_dir=str(folder), log_every_n_steps=1)
    trainer.fit(module, data)
    return noted


def test_guided_pairs_are_sound_and_say_what_they_are(family: Family, policy: Any, pairs: str) -> None:
    index = Index.read(pairs, "vidpref/pairs")
    assert verify(pairs) == []
    rows = [pair_row(entry.key, entry.facts) for entry in index.entries]
    assert [row.kind for row in rows] == ["structural", "structural"]
    assert rows[0].latent_space == policy.latent_space
    assert rows[0].prompt_shapes is not None
    assert rows[0].prompt_shapes.keys() == policy.prompt_shapes.keys()
    newer = family.image or len(policy.prompt_shapes) > 1 or policy.leading_frames > 0
    assert index.version == (2 if newer else 1), "version 2 only where a sample needs it"
    assert (rows[0].image_shape is not None) is family.image
    assert (rows[0].image_states_shape is not None) is policy.attends_to_image
    assert policy._codec._vae is policy._codec._text is None, "released"


def test_a_dense_fit_step_and_its_export(
    family: Family, checkpoint: Path, policy: Any, pairs: str, tmp_path: Path
) -> None:
    labels = write_labels(pairs, [(1,), (-1,)], tmp_path.name, frames_per_segment=8)
    if family.size[0] > 9:
        labels = write_labels(pairs, [(1, -1), (-1, 0)], f"{tmp_path.name}-two", frames_per_segment=8)
    trained = family.policy(str(checkpoint), **family.settings, lora=FlowLora(r=4, alpha=8))
    module = DenseDPO(trained, partial(torch.optim.SGD, lr=0.01), beta=10.0, warmup=0)
    noted = fit(module, DensePairs(pairs, labels), tmp_path, ReferenceModel(), AdapterExport(str(tmp_path / "out")))
    # Given to the model, or a copy that is no part of the video: no frame to prefer.
    given = trained.image_use == "given" or trained.leading_frames > 0
    for batch in noted.batches:
        assert [condition.fps for condition in batch.conditions] == [FPS]
        assert (batch.labels[:, 0] == 0).all() == given
        assert (batch.segments[:, 0] == -1).all() == given
    if family.size[0] == 9:
        counted = 2 if trained.image_use == "given" else 3
        assert noted.batches[0].denominators["preference"] == counted, "given frames are not counted, nor copies"
    assert noted.losses[0] == pytest.approx(0.6931472, abs=1e-5)
    again = family.build(checkpoint, adapter=str(tmp_path / "out" / "last"))
    assert max(float(weight.detach().abs().max()) for name, weight in again.named_parameters() if "lora_B" in name) > 0


@pytest.mark.parametrize(
    ("expert", "times"), [("transformer", (0.9, 1.0)), ("transformer_2", (0.0, 0.9)), ("both", (0.0, 1.0))]
)
def test_one_expert_or_both_train_and_come_back(expert: str, times: tuple[float, float], tmp_path: Path) -> None:
    """Wan2.2-I2V-A14B, whose experts meet at 0.9: what a run exports is what the next one starts from."""
    family = FAMILIES["wan-image"]
    folder = family.save(tmp_path / "wan")
    settings = {**family.settings, "transformer": expert}
    videos = MemoryVideos({key: family.video(seed) for seed, key in enumerate("ab")}, fps=FPS)
    # Guided pairs are made by the expert of low noise alone, whichever trains.
    sampler = GuidedSampler(family.build(folder, transformer="transformer_2"), num_steps=2, guidance_scale=1.0)
    predict(ShardWriter(str(tmp_path / "pairs")), sampler, videos)
    pairs = f"{tmp_path}/pairs.index.json"
    labels = write_labels(pairs, [(1,), (-1,)], "labels", frames_per_segment=8)
    trained = family.policy(str(folder), **settings, lora=FlowLora(r=4, alpha=8))
    module = DenseDPO(trained, partial(torch.optim.SGD, lr=0.5), beta=10.0, warmup=0)
    if expert != "both":
        with pytest.raises(ValueError, match=r"data\.time_range is \[0, 1\], the policy is made for noise levels from"):
            fit(module, DensePairs(pairs, labels), tmp_path / "wrong")
    data = DensePairs(
        pairs, labels, batch_size=2, time_range=times, flow_shift=10.0 if expert == "transformer" else 1.0
    )
    noted = fit(module, data, tmp_path, ReferenceModel(), AdapterExport(str(tmp_path / "out")))
    assert noted.losses[0] == pytest.approx(0.6931472, abs=1e-5)
    assert all(times[0] <= t <= times[1] for batch in noted.batches for t in batch.t.tolist())
    again = family.build(folder, transformer=expert, adapter=str(tmp_path / "out" / "last"))
    ours, theirs = (
        {name: weight for name, weight in policy.state_dict().items() if ".default." in name}
        for policy in (trained, again)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name].cpu(), theirs[name]) for name in ours)
    moved = {name for name, weight in ours.items() if "lora_B" in name and weight.any()}
    drawn = {time >= 0.9 for batch in noted.batches for time in batch.t.tolist()}
    prefixes = {"both": {True: "model.transformer.", False: "model.transformer_2."}}.get(expert)
    assert moved
    if prefixes:
        assert all(any(name.startswith(prefixes[high]) for name in moved) for high in drawn)


def test_supervised_fine_tuning_on_the_real_videos(
    family: Family, checkpoint: Path, pairs: str, tmp_path: Path
) -> None:
    trained = family.policy(str(checkpoint), **family.settings, lora=FlowLora(r=4, alpha=8))
    module = SupervisedFlow(trained, partial(torch.optim.SGD, lr=0.01), warmup=0)
    noted = fit(module, Latents(pairs, drop_prompts=0.5), tmp_path)
    assert all(0 < loss < 100 for loss in noted.losses)


def test_vanilla_pairs_encoded_videos_and_sampled_ones(family: Family, policy: Any, tmp_path: Path) -> None:
    videos = MemoryVideos({"a": family.video()}, fps=FPS)
    sampler = GuidedSampler(policy, eta=1.0, num_steps=2, flow_shift=None, guidance_scale=1.0)
    predict(ShardWriter(str(tmp_path / "vanilla")), sampler, videos)
    (entry,) = Index.read(tmp_path / "vanilla.index.json").entries
    assert pair_row(entry.key, entry.facts).kind == "vanilla"
    predict(ShardWriter(str(tmp_path / "latents")), VideoEncoder(policy), videos)
    assert verify(tmp_path / "latents.index.json") == []
    frames, height, width = family.size
    (tmp_path / "prompts.txt").write_text("a ball\n")
    (tmp_path / "images").mkdir()
    settings: dict[str, Any] = {"num_steps": 2, "flow_shift": None, "guidance_scale": 2.0}
    if family.image:
        with pytest.raises(ValueError, match=r"from an image, and there is none: give model\.images"):
            VideoSampler(policy, frames, height, width, FPS, **settings)
        settings["images"] = str(tmp_path / "images")
    sampler_of_videos = VideoSampler(policy, frames, height, width, FPS, **settings)
    data = Prompts(str(tmp_path / "prompts.txt"))
    if family.image:
        with pytest.raises(ValueError, match="no image of 1 prompts, 'a ball'"):
            trainer_with([]).predict(sampler_of_videos, data, return_predictions=False)
        cv2.imwrite(str(tmp_path / "images" / "a ball.png"), family.video()[0].permute(1, 2, 0).numpy()[..., ::-1])
    predict(VideoFolderWriter(str(tmp_path / "videos")), sampler_of_videos, data)
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert probe(video).frames == frames
    assert policy._codec._vae is policy._codec._text is None, "released"
