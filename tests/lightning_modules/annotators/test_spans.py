"""The span of frames that stands out."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.annotators.spans import event_span


def test_a_step_is_found_exactly_whatever_the_scale_of_the_scores() -> None:
    scores = torch.tensor([0.0, 0, 0, 1, 1, 1, 0, 0])
    for scaled in (scores, 100 * scores - 7, 1e-3 * scores + 0.2):
        first, last, confidence = event_span(scaled)
        assert (first, last) == (3, 5)
        assert confidence == pytest.approx(1.0, abs=1e-3)


def test_a_span_that_stands_below_is_no_event() -> None:
    assert event_span(torch.tensor([1.0, 1, 0, 1, 1, 1]))[:2] == (3, 5)


def test_confidence_is_the_explained_share_of_the_variance() -> None:
    scores = torch.tensor([0.0, 2.0, 3.0, 2.0, 0.0, 2.0])
    first, last, confidence = event_span(scores)
    inside = scores[first : last + 1]
    outside = torch.cat([scores[:first], scores[last + 1 :]])
    unexplained = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
    total = ((scores - scores.mean()) ** 2).sum()
    assert (first, last) == (1, 3)
    assert confidence == pytest.approx(float(1 - unexplained / total))


def test_the_best_span_of_all() -> None:
    torch.manual_seed(0)
    scores = torch.randn(12)
    best = 0.0
    for first in range(12):
        for last in range(first, 12):
            inside, outside = scores[first : last + 1], torch.cat([scores[:first], scores[last + 1 :]])
            if len(outside) and inside.mean() > outside.mean():
                rest = inside.var(correction=0) * len(inside) + outside.var(correction=0) * len(outside)
                best = max(best, float(1 - rest / (scores.var(correction=0) * 12)))
    assert event_span(scores)[2] == pytest.approx(best, abs=1e-5)


def test_equal_scores_have_no_event() -> None:
    assert event_span(torch.full((5,), 3.0)) == (0, 4, 0.0)
