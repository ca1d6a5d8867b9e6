"""What bad pairs and labels get: an error before training that names shard and key, or a masked slot."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from datamodules.dense.dense_pairs import DensePairs
from datamodules.dense.facts import label_sample_facts, pair_sample_facts
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from tests.support.flow_harness import FlowRecorder, attached
from tests.support.flow_shards import (
    LABELS,
    SPACE,
    FlowShards,
    pair_row,
    pair_sample,
    write_flow_shards,
    write_labels,
    write_pairs,
)
from tests.support.shard_samples import flip_byte

Facts = dict[str, Any]


def tampered(check: Callable[..., Facts], key: str, **changes: Any) -> Callable[..., Facts]:
    """Facts as another program may have written them: unchecked, and wrong for one key."""

    def facts_of(name: str, record: Any, suffixes: Any) -> Facts:
        return check(name, record, suffixes) | (changes if name == key else {})

    return facts_of


def with_facts(folder: Path, **changes: Any) -> FlowShards:
    """Four pairs; what the index says of the second one's pair or labels is changed."""
    of_labels = set(changes) <= {"labels", "frames_per_segment", "whole"}
    rows = [pair_row(f"p{number:02d}") for number in range(4)]
    write_shards(
        map(pair_sample, rows),
        folder / "pairs",
        "vidpref/pairs",
        facts_of=pair_sample_facts if of_labels else tampered(pair_sample_facts, "p01", **changes),
    )
    pairs = str(folder / "pairs.index.json")
    if not of_labels:
        return FlowShards(pairs, write_labels(pairs))
    record = {"labels": LABELS[0], "frames_per_segment": 4}
    write_shards(
        ((row.key, {"json": json.dumps({"key": row.key, **record}).encode()}) for row in rows),
        folder / "labels",
        "vidpref/labels",
        facts_of=tampered(label_sample_facts, "p01", **changes),
        made_from={"fingerprint": Index.read(pairs).fingerprint},
    )
    return FlowShards(pairs, str(folder / "labels.index.json"))


@pytest.mark.parametrize(
    ("changes", "where", "why"),
    [
        ({"labels": [1, 2, 0]}, "labels", r"\[2\] are none of \+1"),
        ({"labels": [1, 0]}, "labels", r"labels: 2 do not fit 13 frames, which in segments of 4 frames have 3 labels"),
        ({"labels": []}, "labels", "are empty"),
        ({"frames_per_segment": 8}, "labels", "3 do not fit 13 frames, which in segments of 8 frames have 2 labels"),
        ({"frames_per_segment": 2}, "labels", "a segment of 2 frames is shorter than a latent of 4"),
        ({"whole": 3}, "labels", r"\[3\] are none of \+1"),
        ({"latent_shape": [4, 5, 2, 4]}, "pairs", r"latent_shape: \[4, 5, 2, 4\] does not fit 13 frames of 32 x 16"),
        ({"frames": 12}, "pairs", "12 frames are not a multiple of 4 plus 1"),
        ({"eta": 0.0}, "pairs", r"eta: 0 is not a noise level in \(0, 1\]"),
        ({"eta": 1.5}, "pairs", r"eta: 1\.5 is not a noise level in \(0, 1\]"),
        ({"kind": "vanilla"}, "pairs", r"eta: 0\.75 in a vanilla pair"),
        ({"seeds": [7, 7]}, "pairs", "seeds: are both 7"),
    ],
)
def test_a_wrong_fact_is_told_with_shard_and_key(tmp_path: Path, changes: Facts, where: str, why: str) -> None:
    shards = with_facts(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"{where}-000000\.tar: sample 'p01': .*{why}"):
        attached(DensePairs(*shards))


def test_latents_of_another_autoencoder_are_refused(tmp_path: Path) -> None:
    shards = write_flow_shards(tmp_path)
    for other, why in (
        (replace(SPACE, name="another"), "name 'tiny' is not 'another'"),
        (replace(SPACE, std=(2.0,) * 4), r"std \[1, 1, 1, 1\] \(4 channels\) is not \[2, 2, 2, 2\]"),
        (replace(SPACE, mean=(0.0,) * 16), r"mean .* is not .*16 channels"),
    ):
        message = rf"pairs-000000\.tar: sample 'p00' \(and 11 others\): latents of another autoencoder.*{why}"
        with pytest.raises(ValueError, match=message):
            attached(DensePairs(*shards), FlowRecorder(space=other))
    rounded = replace(SPACE, std=tuple(1.0 + 1e-7 for _ in range(4)))
    attached(DensePairs(*shards), FlowRecorder(space=rounded))


def test_labels_must_be_given_and_be_of_these_pairs(tmp_path: Path) -> None:
    pairs, labels = write_flow_shards(tmp_path)
    with pytest.raises(ValueError, match=r"data\.train_labels is not given"):
        attached(DensePairs(pairs))
    with pytest.raises(ValueError, match=r"data\.train is not given"):
        attached(DensePairs(train_labels=labels))
    with pytest.raises(ValueError, match=r"DensePairs has no samples for `predict`"):
        attached(DensePairs(pairs, labels), stage="predict")
    with pytest.raises(ValueError, match=r"schema 'vidpref/pairs', expected vidpref/labels"):
        attached(DensePairs(pairs, pairs))
    others = write_pairs(tmp_path, 3, "others")
    with pytest.raises(ValueError, match=r"made from other pairs than .*others-000000.*\n.*labels-000000\.tar"):
        attached(DensePairs(others, labels))
    unknown = write_labels(pairs, name="unknown", fingerprint="of something else")
    with pytest.raises(ValueError, match=r"made from other pairs"):
        attached(DensePairs(pairs, unknown))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"min_decided": 1.0}, r"min_decided is 1\.0"),
        ({"label_fraction": 0.0}, r"label_fraction is 0\.0"),
        ({"flip_labels": 1.2}, r"flip_labels is 1\.2"),
        ({"logit_std": 0.0}, r"logit_std is 0\.0"),
        ({"flow_shift": -1.0}, r"flow_shift -1\.0"),
        ({"time_range": (0.5, 0.5)}, "two rising times"),
        ({"time_range": (0.99, 1.0), "logit_mean": -3.0}, "less than 1% of the draws"),
        ({"batch_size": 0}, r"batch_size is 0; give 1 or more"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        DensePairs("a", "b", **settings)


@pytest.fixture
def damaged(tmp_path: Path) -> FlowShards:
    """Five pairs: one sound, one altered, one of another shape, one not finite, one without a prompt."""
    samples = dict(pair_sample(pair_row(f"p{number:02d}")) for number in range(5))
    samples["p02"] = pair_sample(pair_row("p02"), shape=(4, 4, 4, 4))[1]
    bad = torch.full((4, 4, 2, 4), float("nan"))
    samples["p03"]["latents.safetensors"] = save({"first": bad, "second": bad.clone()})
    samples["p04"]["prompt.safetensors"] = save({"embeds": torch.zeros(0, 6)})
    index = write_shards(samples.items(), tmp_path / "bad", "vidpref/pairs")
    flip_byte(index, 1, "latents.safetensors")
    pairs = str(tmp_path / "bad.index.json")
    return FlowShards(pairs, write_labels(pairs, [(1, 0, 0)]))


def test_what_the_index_does_not_tell_shows_at_the_first_read(damaged: FlowShards) -> None:
    whys = {
        "p01": r"\.latents\.safetensors was altered",
        "p02": r"first is \[4, 4, 4, 4\], the index says \[4, 4, 2, 4\]",
        "p03": "not finite",
        "p04": r"holds \{'embeds': \[0, 6\]\}, not embeds \(n, D\) of a prompt",
    }
    data = DensePairs(val=damaged.pairs, val_labels=damaged.labels, batch_size=1)
    loader = attached(data, stage="validate").val_dataloader()
    assert next(iter(loader)).keys == ["p00"]
    skipping = DensePairs(val=damaged.pairs, val_labels=damaged.labels, batch_size=5, on_bad_sample="skip")
    (batch,) = attached(skipping, stage="validate").val_dataloader()
    assert batch.mask.tolist() == [True, False, False, False, False]
    assert not batch.labels[1:].any()
    assert not batch.first[1:].any()
    assert torch.isfinite(batch.noise).all()
    assert set(skipping.bad_samples) == set(whys)
    for key, why in whys.items():
        with pytest.raises(ValueError, match=rf"bad-000000\.tar: sample '{key}'.*{why}"):
            raise ValueError(skipping.bad_samples[key])
    with pytest.raises(ValueError, match=r"bad-000000\.tar: sample 'p01'.*altered"):
        list(loader)


def test_a_pair_without_a_prompt_does_not_get_into_a_shard(tmp_path: Path) -> None:
    row = replace(pair_row("p00"), prompt=" ")
    with pytest.raises(ValueError, match=r"pairs-000000\.tar.*p00: prompt: is empty"):
        write_shards([pair_sample(row)], tmp_path / "pairs", "vidpref/pairs")


def test_only_the_first_of_many_faults_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = write_pairs(tmp_path, 30)
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match=r"(?s)'p19'.*\.\.\. and 10 more") as error:
        attached(DensePairs(pairs, write_labels(pairs, [(1, 0)])))
    assert "'p20'" not in str(error.value)


def test_a_method_of_real_videos_is_sent_to_its_own_data(tmp_path: Path) -> None:
    shards = write_flow_shards(tmp_path)
    with pytest.raises(ValueError, match=r"terms \['supervised'\] are of real videos.*data: Latents.*store_clean"):
        attached(DensePairs(*shards), FlowRecorder({"supervised": "samples"}))


def test_times_that_the_policy_is_not_made_for_are_refused(tmp_path: Path) -> None:
    shards = write_flow_shards(tmp_path)
    low = FlowRecorder(times=(0.0, 0.875))
    with pytest.raises(
        ValueError, match=r"data\.time_range is \[0, 1\].*from 0 to 0\.875 alone; set it to \[0, 0\.875\]"
    ):
        attached(DensePairs(*shards), low)
    attached(DensePairs(*shards, time_range=(0.0, 0.875)), low)
    attached(DensePairs(*shards, time_range=(0.1, 0.5)), low)


def test_prompts_that_the_policy_cannot_take_are_told_before_training(tmp_path: Path) -> None:
    shards = write_flow_shards(tmp_path, prompt_shapes={"embeds": (5, 6)})
    message = r"pairs-000000\.tar: sample 'p00': a prompt embedding of \(5, 6\), the policy takes at most \(4, 6\)"
    with pytest.raises(ValueError, match=message):
        attached(DensePairs(*shards))
    attached(DensePairs(*shards), FlowRecorder(prompt_shapes={"embeds": (5, 6)}))
    with pytest.raises(ValueError, match=r"at most \(5, 7\)"):
        attached(DensePairs(*shards), FlowRecorder(prompt_shapes={"embeds": (5, 7)}))
