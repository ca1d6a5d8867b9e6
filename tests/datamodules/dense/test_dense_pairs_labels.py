"""Labels of `DensePairs`: the filter, and the ablations that draw and flip them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from datamodules.dense.dense_pairs import DensePairs
from datamodules.shards.index import Index
from datamodules.stream.plan import order
from datamodules.video.facts import VideoFacts
from tests.support.dense_pairs_harness import KEYS, dense, epoch_of, labels_of, steps
from tests.support.flow_harness import attached
from tests.support.flow_shards import FlowShards, write_labels, write_pairs


def test_the_filter_is_strict_and_comes_before_the_order(shards: FlowShards, tmp_path: Path) -> None:
    golden = json.loads(Path("tests/golden/dense_6_labels.json").read_text())["majority"]
    pairs = write_pairs(tmp_path, len(golden), video=VideoFacts(21, 4.0, 32, 16))
    labels = write_labels(pairs, [case["labels"] for case in golden])
    labels_by_key = labels_of(attached(dense(FlowShards(pairs, labels), batch_size=1)))
    kept = {f"p{number:02d}": case["majority"] for number, case in enumerate(golden) if case["kept_gt_20pct"]}
    assert {key: whole for key, (_, whole) in labels_by_key.items()} == kept
    index = Index.read(shards.pairs)
    positions = [index.positions[key] for key in KEYS]
    expected = order(index.shard_counts, positions, seed=5, epoch=0).tolist()
    batches = steps(attached(dense(shards)), 5)
    assert [index.positions[key] for batch in batches for key in batch.keys] == expected


def test_what_is_left_out_is_counted_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = write_pairs(tmp_path, 12)
    labels = write_labels(pairs, [(1, 0, 0), None, (1, -1, 0), (0, 0, 0)])
    with caplog.at_level(logging.WARNING):
        data = attached(dense(FlowShards(pairs, labels), drop_whole_ties=True, batch_size=1))
    (line,) = caplog.messages
    assert "3 of 12 pairs are taken; left out: 3 without a label" in line
    assert "3 with at most 20% of the segments decided, 3 a tie as a whole" in line
    assert set(epoch_of(data)) == {"p00", "p04", "p08"}
    caplog.clear()
    attached(dense(FlowShards(pairs, labels)), rank=1, world=2)
    assert not caplog.messages
    only = write_labels(pairs, [(0, 0, 0)], name="ties")
    with pytest.raises(ValueError, match=r"0 of 12 pairs are taken; left out: 12 with at most 20%.*min_decided"):
        attached(dense(FlowShards(pairs, only)))


def test_flipped_labels_are_a_draw_by_key_and_seed(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 40)
    labels = write_labels(pairs, [(1, -1, 0), (-1, -1, 1)], whole=1)
    shards = FlowShards(pairs, labels)
    plain = labels_of(attached(dense(shards)))

    def turned(**changes: Any) -> set[tuple[str, int]]:
        now = labels_of(attached(dense(shards, **changes)))
        assert all((a == 0) == (b == 0) for key in plain for a, b in zip(now[key][0], plain[key][0], strict=True))
        frames = {
            (key, segment) for key in plain for segment in (0, 2, 3) if now[key][0][segment] != plain[key][0][segment]
        }
        return frames | {(key, -1) for key in plain if now[key][1] != plain[key][1]}

    some = turned(flip_labels=0.4)
    assert len(some) == pytest.approx(0.4 * 40 * 3.5, rel=0.25)
    assert some == turned(flip_labels=0.4, batch_size=5, num_workers=1)
    assert some != turned(flip_labels=0.4, seed=6)
    assert turned(flip_labels=0.2) < some
    assert len(turned(flip_labels=1.0)) == 20 * 3 + 20 * 4
    validated = DensePairs(pairs, labels, pairs, labels, batch_size=40, flip_labels=1.0, label_fraction=0.1)
    (batch,) = attached(validated).val_dataloader()
    assert {key: batch.labels[row].tolist() for row, key in enumerate(batch.keys)} == {
        k: v[0] for k, v in plain.items()
    }


def test_a_smaller_fraction_of_labels_is_part_of_a_larger_one(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 40)
    shards = FlowShards(pairs, write_labels(pairs, [(1, 0, 0), None]))

    def taken(**changes: Any) -> set[str]:
        return set(epoch_of(attached(dense(shards, batch_size=1, **changes))))

    half, quarter = taken(label_fraction=0.5), taken(label_fraction=0.25)
    assert (len(half), len(quarter)) == (10, 5)
    assert quarter < half == taken(label_fraction=0.5)
    assert half != taken(label_fraction=0.5, seed=6)


def test_with_no_least_share_a_whole_label_decides_alone(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 6)
    each = [(0, 0, 0), (1, 0, 0), (0, 0, 0)]

    def taken(labels: str, **settings: Any) -> set[str]:
        data = attached(dense(FlowShards(pairs, labels), drop_whole_ties=True, batch_size=1, **settings))
        return set(epoch_of(data))

    whole = write_labels(pairs, each, "whole", whole=-1)
    assert taken(whole, min_decided=None) == {f"p{number:02d}" for number in range(6)}
    assert taken(whole, min_decided=0.0) == {"p01", "p04"}
    assert taken(write_labels(pairs, each, "majority"), min_decided=None) == {"p01", "p04"}


def test_whole_labels_are_flipped_by_their_share_also_where_they_are_a_majority(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 200)
    shards = FlowShards(pairs, write_labels(pairs, [(1, 1, -1)]))
    labels_by_key = labels_of(attached(dense(shards, flip_labels=0.2, batch_size=20)))
    # Of flipped segments alone it would be 0.8^2 0.2 + 2 0.2 0.8^2 + ... = 0.30 of them.
    assert sum(whole == -1 for _, whole in labels_by_key.values()) == pytest.approx(40, abs=12)
