"""The Metric over answers: what padding, repetition and processes do to it, which is nothing."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.video_hallucer.module import VideoHallucerMetric
from datamodules.questions.video_hallucer_files import HALVES, question_key
from tests.support.goldens import golden
from tests.support.paths import ROOT

GOLDEN = golden("bench_videohallucer")


def golden_items() -> dict[str, dict[str, Any]]:
    pairs, items = iter(GOLDEN["pairs"]), {}
    for subset in GOLDEN["subset_order"]:
        for number in range(GOLDEN["subsets"][subset]):
            pair = next(pairs)
            for half in HALVES:
                part = pair[half]
                items[question_key(subset, number, half)] = {"answer": part["answer"], "predict": part["predict"],
                                                             "at": len(items)}  # fmt: skip
    return items


def test_the_published_scorers_numbers_from_answers_in_any_order_and_often() -> None:
    items = list(golden_items().items())
    random.Random(1).shuffle(items)
    metric = VideoHallucerMetric()
    for start in range(0, len(items), 5):
        metric.update(dict(items[start : start + 5]))
    metric.update({})
    metric.update(dict(items[:7]))  # padding repeats the first ones
    assert metric.compute() == GOLDEN["multi_subset"]
    assert list(metric.gathered()) == list(golden_items())


def test_uneven_ranks_are_exact() -> None:
    """Rank 0 has five answers, rank 1 the others and one of rank 0's again, rank 2 none."""
    items = list(golden_items().items())
    shares = [items[:5], items[4:], []]
    packed = []
    for share in shares:
        metric_of_rank = VideoHallucerMetric()
        metric_of_rank.update(dict(share))
        packed.append(metric_of_rank.packed[0])
    assert {tensor.dtype for tensor in packed} == {torch.uint8}, "ranks that gather different types wait for ever"

    def gather(own: Tensor, group: object = None) -> list[Tensor]:
        assert own.equal(packed[0])
        return packed

    metric = VideoHallucerMetric(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    metric.update(dict(shares[0]))
    assert metric.compute() == GOLDEN["multi_subset"]
    assert len(metric.packed) == 1, "what was gathered is put back"


def test_a_pair_with_one_half_is_left_out_and_reset_forgets() -> None:
    metric = VideoHallucerMetric()
    metric.update({"a/0/basic": {"answer": "yes", "predict": "yes"}, "a/0/hallucination": {"skipped": "no video"}})
    metric.update({f"a/1/{half}": {"answer": "yes", "predict": "yes"} for half in HALVES})
    assert metric.compute()["a"] == {"basic_accuracy": 1, "halluc_accuracy": 1, "accuracy": 1}
    metric.reset()
    metric.update({})
    assert metric.gathered() == {}


GLOO = """
import json, sys
import torch.distributed as dist
from benchmarks.video_hallucer.module import VideoHallucerMetric
from tests.benchmarks.base.test_answer_metric import golden_items
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{folder}/meet", rank=rank, world_size=2)
metric, items = VideoHallucerMetric(), list(golden_items().items())
mine = items[:9] if rank == 0 else items[9:] + items[:1]  # the last batch is padded with the first question
for at in range(0, len(mine), 4):
    metric.update(dict(mine[at:at + 4]))
again = VideoHallucerMetric()
again.update(dict(items) if rank == 1 else {{}})
with open("{folder}/rank%d.json" % rank, "w") as file:
    json.dump([metric.compute(), again.compute()], file)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_gloo_processes_against_one(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(GLOO.format(folder=str(tmp_path)))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([sys.executable, str(script), str(rank)], env=environment) for rank in (0, 1)]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == [GOLDEN["multi_subset"]] * 2
