"""The options that every data module over shards has are on the command line, with what they mean."""

from __future__ import annotations

from typing import Any

import pytest
from jsonargparse import ArgumentParser

from datamodules.dense.dense_pairs import DensePairs
from datamodules.dense.latents import Latents
from datamodules.dense.pair_videos import PairVideos
from datamodules.dense.videos import Videos
from datamodules.vista.vista_pairs import VistaPairs

#: Option -> its default, and the beginning of what the help says of it.
SHARED = {
    "batch_size": (1, ""),
    "num_workers": (0, "processes per rank that read"),
    "on_bad_sample": ("raise", "an altered or un"),
    "max_bad_samples": (10, "how many samples may be skipped before the run stops after all"),
    "multiprocessing_context": (None, '"fork", "spawn" or "forkserver" for the workers'),
    "reader": (None, "how bytes are fetched (attempts, backoff, timeout)"),
}
OF_TRAINING = {
    "seed": (0, "decides the order of the"),
    "window": (16, "shards that are shuffled together; more = better mixed"),
    "allow_changed": (False, "go on from a checkpoint also where the training samples are others"),
}


def options(data: type[Any]) -> dict[str, tuple[Any, str]]:
    parser = ArgumentParser()
    parser.add_class_arguments(data)
    return {action.dest: (action.default, str(action.help)) for action in parser._actions if action.dest != "help"}


@pytest.mark.parametrize("data", [VistaPairs, DensePairs, Latents])
def test_training_data_has_all_of_them(data: type[Any]) -> None:
    shown = options(data)
    for name, (default, meaning) in (SHARED | OF_TRAINING).items():
        assert shown[name][0] == default
        assert shown[name][1].startswith(meaning)


@pytest.mark.parametrize("data", [Videos, PairVideos])
def test_data_of_predict_has_none_that_concern_training(data: type[Any]) -> None:
    shown = options(data)
    for name, (default, meaning) in SHARED.items():
        assert shown[name][0] == default
        assert shown[name][1].startswith(meaning)
    assert not shown.keys() & OF_TRAINING.keys()
    assert "limit" in shown


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="batchsize"):
        Videos("videos.index.json", batchsize=2)
