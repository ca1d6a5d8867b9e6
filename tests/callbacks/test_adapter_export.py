from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from torch import Tensor

from callbacks.adapter_export import AdapterExport
from callbacks.recovery import Recovery
from callbacks.reference.model import ReferenceModel
from datamodules.shards.files import replaced_folder
from datamodules.shards.output_lock import LockedError
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import View
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.supervised import Supervised
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.other_writer import other_writer
from tests.support.preference_fakes import Batches, make_trainer
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava

LORA = LoraSettings(r=2, alpha=8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_video_llava(tmp_path_factory.mktemp("tiny")))


def make_batch(seed: int) -> VistaBatch:
    frames = torch.randint(0, 256, (2, NUM_FRAMES, 3, 16, 16), generator=torch.Generator().manual_seed(seed)).byte()
    answers: dict[Any, str] = {"chosen": "it moves left", "rejected": "it moves right", "irrelevant": "a cat"}
    views = [
        View(0, "original", frames[0], "where does it go", answers),
        View(0, "video_negative", frames[0].flip(0), "where does it go", {"chosen": answers["chosen"]}),
    ]
    terms = ("response", "video", "token", "supervised")
    return VistaBatch([f"s{seed}"], views, torch.ones(1, dtype=torch.bool), dict.fromkeys(terms, 1.0))


class Pairs(LightningDataModule):
    """Six batches from `shift` on, round and round: without a state, a resumed run starts where it is told to."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift = shift

    def train_dataloader(self) -> Any:
        return Batches([make_batch((self.shift + number) % 6) for number in range(6)])


def train(module: Any, callbacks: list[Any], steps: int = 2) -> Any:
    make_trainer(callbacks, steps=steps).fit(module, Pairs())
    return module


def vista(policy: VideoLlavaPolicy, lr: float = 0.05) -> VistaDPO:
    weights = VistaWeights(clip=0, object=0)
    optimizer = partial(torch.optim.SGD, lr=lr, momentum=0.9)
    return VistaDPO(policy, optimizer, weights=weights, schedule="constant", warmup=0.0)


def scores(policy: VideoLlavaPolicy, reference: bool = False) -> Tensor:
    policy.load()
    with torch.no_grad():
        encoded = policy.encode(make_batch(9).views)
        if not reference:
            return policy(encoded).log_probs
        with policy.reference_mode():
            return policy(encoded).log_probs


def test_an_exported_adapter_gives_the_trained_scores_in_peft_and_here(checkpoint: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import VideoLlavaForConditionalGeneration

    policy = train(
        vista(VideoLlavaPolicy(checkpoint, lora=LORA, num_frames=NUM_FRAMES)),
        [
            ReferenceModel(),
            AdapterExport(str(tmp_path / "exports")),
        ],
    ).policy
    trained, folder = scores(policy), tmp_path / "exports" / "last"
    base = VideoLlavaPolicy(checkpoint, num_frames=NUM_FRAMES)
    assert not torch.allclose(scores(base), trained, atol=1e-3)

    again = VideoLlavaPolicy(checkpoint, adapter=str(folder), num_frames=NUM_FRAMES)
    assert torch.allclose(scores(again), trained, atol=1e-6)

    plain = PeftModel.from_pretrained(VideoLlavaForConditionalGeneration.from_pretrained(checkpoint), str(folder))
    base.model = plain.merge_and_unload()
    assert torch.allclose(scores(base), trained, atol=1e-5), "alpha differs from r, so a lost alpha would show"


def test_a_supervised_adapter_stays_in_the_reference(checkpoint: str, tmp_path: Path) -> None:
    supervised = Supervised(
        VideoLlavaPolicy(checkpoint, lora=LORA, num_frames=NUM_FRAMES), lambda p: torch.optim.SGD(p, lr=0.05)
    )
    train(supervised, [AdapterExport(str(tmp_path / "supervised"))])
    start = scores(supervised.policy)
    folder = str(tmp_path / "supervised" / "last")

    policy = VideoLlavaPolicy(checkpoint, adapter=folder, num_frames=NUM_FRAMES)
    module = train(vista(policy), [ReferenceModel(guard_every_n_steps=1), AdapterExport(str(tmp_path / "vista"))], 3)
    assert torch.allclose(scores(module.policy, reference=True), start, atol=1e-6)
    assert not torch.allclose(scores(module.policy), start, atol=1e-3)

    last = tmp_path / "vista" / "last"
    assert not (last / "reference").exists(), "the frozen copy is no result"
    again = VideoLlavaPolicy(checkpoint, adapter=str(last), num_frames=NUM_FRAMES)
    assert torch.allclose(scores(again), scores(module.policy), atol=1e-6)


def test_full_fine_tuning_exports_a_folder_for_from_pretrained(checkpoint: str, tmp_path: Path) -> None:
    module = vista(VideoLlavaPolicy(checkpoint, num_frames=NUM_FRAMES), lr=0.01)
    train(module, [ReferenceModel("copy"), AdapterExport(str(tmp_path))])
    again = VideoLlavaPolicy(str(tmp_path / "last"), num_frames=NUM_FRAMES)
    assert torch.allclose(scores(again), scores(module.policy), atol=1e-6)
    assert not torch.allclose(scores(again), scores(VideoLlavaPolicy(checkpoint, num_frames=NUM_FRAMES)), atol=1e-3)


def test_exports_on_the_way_are_complete_and_replace_what_was_there(checkpoint: str, tmp_path: Path) -> None:
    stale = tmp_path / "step-000002" / "stale.txt"
    stale.parent.mkdir()
    stale.write_text("from an earlier run")
    module = vista(VideoLlavaPolicy(checkpoint, lora=LORA, num_frames=NUM_FRAMES))
    train(module, [ReferenceModel(), AdapterExport(str(tmp_path), every_n_steps=2)], steps=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".last.json", "last", "step-000002"]
    assert not stale.exists()
    first = VideoLlavaPolicy(checkpoint, adapter=str(tmp_path / "step-000002"), num_frames=NUM_FRAMES)
    assert not torch.allclose(scores(first), scores(module.policy), atol=1e-4), "a step more was trained after it"


class Killed(AdapterExport):
    """Ends while the export is written."""

    def export(self, trainer: Any, module: Any, name: str) -> Path:
        with replaced_folder(self.folder_of(trainer) / name) as partial:
            (partial / "half").touch()
            raise RuntimeError("killed")


def recovered(folder: Path, checkpoint: str, export: type[AdapterExport], steps: int, **settings: Any) -> VistaDPO:
    """A start of a run that goes on from its last checkpoint, which is written at each step."""
    module = vista(VideoLlavaPolicy(checkpoint, lora=LORA, num_frames=NUM_FRAMES))
    callbacks = [ReferenceModel(), export(), Recovery(minutes=None, every_n_steps=1)]
    last = folder / "checkpoints/last.ckpt"
    trainer = make_trainer(callbacks, steps, enable_checkpointing=True, default_root_dir=str(folder), **settings)
    trainer.fit(module, Pairs(), ckpt_path=last if last.exists() else None, weights_only=True)
    return module


def test_a_run_killed_in_its_export_is_exported_by_the_next_start(checkpoint: str, tmp_path: Path) -> None:
    first = scores(recovered(tmp_path, checkpoint, AdapterExport, steps=1).policy)
    exports, last = tmp_path / "exports", tmp_path / "exports/last"
    with pytest.raises(RuntimeError, match="killed"):
        recovered(tmp_path, checkpoint, Killed, steps=2)
    kept = VideoLlavaPolicy(checkpoint, adapter=str(last), num_frames=NUM_FRAMES)
    assert torch.allclose(scores(kept), first, atol=1e-6), "the former export is there until the new one is whole"

    trained = scores(recovered(tmp_path, checkpoint, AdapterExport, steps=2).policy)
    assert not torch.allclose(trained, first, atol=1e-4)
    assert sorted(path.name for path in exports.iterdir()) == [".last.json", "last"]
    again = VideoLlavaPolicy(checkpoint, adapter=str(last), num_frames=NUM_FRAMES)
    assert torch.allclose(scores(again), trained, atol=1e-6)
    assert not (last / "half").exists()

    written = (last / "adapter_model.safetensors").stat().st_mtime_ns
    recovered(tmp_path, checkpoint, Killed, steps=2)
    assert (last / "adapter_model.safetensors").stat().st_mtime_ns == written, "it is up to date"
    shutil.rmtree(last)
    recovered(tmp_path, checkpoint, AdapterExport, steps=2)
    assert (last / "adapter_model.safetensors").exists(), "somebody has deleted it"


def test_a_training_that_starts_over_makes_the_export_a_former_one(checkpoint: str, tmp_path: Path) -> None:
    """As many steps as before, so that only the start itself can tell."""
    recovered(tmp_path, checkpoint, AdapterExport, steps=1)
    (tmp_path / "checkpoints/last.ckpt").unlink()
    with pytest.raises(RuntimeError, match="killed"):
        recovered(tmp_path, checkpoint, Killed, steps=1)
    before = (tmp_path / "exports/last").stat().st_ino
    recovered(tmp_path, checkpoint, AdapterExport, steps=1)
    assert (tmp_path / "exports/last").stat().st_ino != before


def test_a_former_folder_that_a_kill_left_aside_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".last.old").mkdir()
    (tmp_path / ".last.old/former").touch()
    with replaced_folder(tmp_path / "last") as partial:
        assert (tmp_path / "last/former").exists()
        (partial / "new").touch()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["last", "last/new"]


def test_two_fits_with_one_folder_outside_their_own_do_not_replace_each_others_export(
    checkpoint: str, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    locks: list[list[str]] = []

    class Watch(Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            locks.append([path.name for path in shared.iterdir()])

    def start() -> None:
        module = vista(VideoLlavaPolicy(checkpoint, lora=LORA, num_frames=NUM_FRAMES))
        train(module, [ReferenceModel(), AdapterExport(str(shared), every_n_steps=1), Watch()], steps=1)

    # As another fit does from its start to its end.
    with other_writer(shared / "last", is_folder=False) as other:
        with pytest.raises(LockedError, match=f"{shared / 'last'} is being written by process {other.pid} on "):
            start()
        assert locks == [], "it is refused before the first step"
        assert [path.name for path in shared.iterdir()] == [".last.lock"]
    # As `vidpref export --output` does.
    with other_writer(shared / "step-000001", is_folder=False), pytest.raises(LockedError, match="000001 is being"):
        start()
    start()
    assert all(".last.lock" in names for names in locks)
    assert sorted(path.name for path in shared.iterdir() if path.suffix != ".lock") == [
        ".last.json", "last", "step-000001"
    ]  # fmt: skip
    assert not (shared / ".last.lock").exists(), "it is given back"


def test_a_fit_that_fails_gives_the_lock_of_its_exports_back(checkpoint: str, tmp_path: Path) -> None:
    class Fails(Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            raise RuntimeError("no memory")

    module = vista(VideoLlavaPolicy(checkpoint, lora=LORA, num_frames=NUM_FRAMES))
    with pytest.raises(RuntimeError, match="no memory"):
        train(module, [ReferenceModel(), AdapterExport(str(tmp_path / "shared")), Fails()])
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_rhythm_is_refused() -> None:
    with pytest.raises(ValueError, match="every_n_steps is 0; give 1 or more"):
        AdapterExport("exports", every_n_steps=0)
