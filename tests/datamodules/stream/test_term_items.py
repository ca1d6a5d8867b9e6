"""The line of each data set at the start of a run: its samples, and the items of every term in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from callbacks.reference.model import ReferenceModel
from datamodules.stream.term_items import item_lines
from lightning_modules import preference
from lightning_modules.vista_dpo import VistaWeights
from tests.support.pairs_harness import eleven_samples, pairs, trainer
from tests.support.preference_fakes import make_module


def test_every_data_set_has_a_line_with_what_is_read_of_it() -> None:
    terms = {"response": np.ones(5, bool), "preference": np.array([3, 0, 2, 4, 0]), "clip": np.zeros(5, bool)}
    data_sets = {"a.index.json": 2, "b.index.json": 3}
    assert item_lines(data_sets, terms, None, ("preference", "clip", "other")) == [
        "a.index.json: 2 samples: preference 3, clip 0",
        "b.index.json: 3 samples: preference 6, clip 0",
    ]
    assert item_lines(data_sets, terms, np.array([3, 0]), ("response", "preference")) == [
        "a.index.json: 1 of 2 samples: response 1, preference 3",
        "b.index.json: 1 of 3 samples: response 1, preference 4",
    ]


def test_a_run_says_it_before_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(preference, "rank_zero_info", said.append)
    shards = eleven_samples(tmp_path)
    module = make_module(weights=VistaWeights(token=0))
    run = trainer(tmp_path, max_steps=1, num_sanity_val_steps=0, limit_val_batches=0, callbacks=[ReferenceModel()])
    training_step = module.training_step
    module.training_step = lambda *step: said.append("step") or training_step(*step)
    run.fit(module, pairs(shards, val=str(shards)))
    line = f"{shards}: 11 samples: response 11, video 11, clip 7, object 8"
    assert said == [line, line, "step"]
