"""Caches of reference scores of a tiny policy, and fits that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from callbacks.reference.cache_writer import ReferenceCacheWriter
from callbacks.reference.model import ReferenceModel
from datamodules.vista.batches import VistaBatch
from tests.support.preference_fakes import FakePairs, make_batch, make_module, make_trainer


def batches() -> list[VistaBatch]:
    """Three batches of the samples s0 to s4; the last has padding."""
    return [make_batch([0, 1]), make_batch([2, 3]), make_batch([4, 0], masked=(1,))]


def write_cache(folder: Path, name: str = "train", data: FakePairs | None = None, **module: Any) -> str:
    """Write the cache ``FOLDER/NAME`` by `predict`; the path of its index."""
    writer = ReferenceCacheWriter(str(folder / name), samples_per_shard=module.pop("samples_per_shard", 256))
    trainer = make_trainer([writer])
    trainer.predict(make_module(**module), data or FakePairs(batches()))
    return str(folder / f"{name}.index.json")


def fit_with(reference: ReferenceModel, steps: int = 5, data: FakePairs | None = None, **module: Any) -> dict[str, Any]:
    """Train a tiny policy; its parameters after the last step."""
    model = make_module(**module)
    trainer = make_trainer([reference], steps=steps)
    trainer.fit(model, data or FakePairs(batches()))
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
