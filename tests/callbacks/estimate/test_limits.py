"""The largest batch and the longest video that fit: predicted by a line, tried by an estimate there."""

from __future__ import annotations

from collections import Counter

import pytest

from callbacks.estimate.cards import CARDS, Card
from callbacks.estimate.estimator import Estimator
from callbacks.estimate.limits import Line
from callbacks.estimate.step import StepCost
from callbacks.estimate.tracker import Peak, Work
from tests.callbacks.estimate.test_step import SIZES, dense


def cost(**peaks: int) -> StepCost:
    """A cost of which only the peaks matter."""
    return StepCost(0, 0, 0, 0, 0, Peak(max(peaks.values())), Counter(peaks))


def test_every_phase_has_its_own_line() -> None:
    # The optimizer needs the most at first and never more; backward overtakes it.
    line = Line((1, cost(backward=30, optimizer=100)), (2, cost(backward=50, optimizer=100)))
    assert [line.bytes_at(size) for size in (1, 4, 5, 6)] == [100, 100, 110, 130]
    assert line.largest(129) == 5
    assert line.largest(130) == 6
    assert line.largest(110, step=2) == 5
    assert line.largest(129, step=2) == 5
    assert line.largest(109) == 4
    assert line.largest(99) is None


def test_below_the_smaller_size() -> None:
    line = Line((8, cost(backward=90)), (10, cost(backward=110)))
    assert line.largest(65) == 5
    assert line.largest(5) is None


@pytest.mark.slow
def test_the_predicted_batch_fits_and_the_next_does_not() -> None:
    estimator = Estimator(dense(), None, "adapter")
    line = Line((1, estimator.cost(SIZES, 1)), (2, estimator.cost(SIZES, 2)))
    memory = 1.7 * estimator.cost(SIZES, 1).peak.total
    largest = line.largest(memory)
    assert largest is not None
    assert largest > 3
    assert estimator.cost(SIZES, largest).peak.total <= memory < estimator.cost(SIZES, largest + 1).peak.total


def test_hours_of_a_card() -> None:
    card = Card("card", 80, 1000.0, 50.0, 0.5)
    work = {Work("forward", "matmul", "bfloat16"): 1.8e18, Work("backward", "matmul", "float32"): 0.9e17}
    # 1.8e18 / 5e14 = 3600 s and 0.9e17 / 2.5e13 = 3600 s
    assert card.hours(work) == pytest.approx(2.0)


def test_the_cards_have_their_dense_rates() -> None:
    rates = {name: (card.bfloat16, card.memory) for name, card in CARDS.items()}
    assert rates == {"H100": (989, 79.6), "H200": (989, 140.4), "A100": (312, 80), "4090": (165, 24)}
