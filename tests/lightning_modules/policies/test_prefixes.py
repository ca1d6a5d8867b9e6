from __future__ import annotations

import pytest
import torch

from lightning_modules.policies.prefixes import left_padded, pack_views, shared_prefix_mask

PREFIXES = [[1, 2, 3], [4, 5]]
ANSWERS = [[[10, 11, 12], [20]], [[30, 31]]]


def test_answers_follow_their_prefix_and_restart_its_positions() -> None:
    packed = pack_views(PREFIXES, ANSWERS, padding_id=9)
    assert packed.ids.tolist() == [[1, 2, 3, 10, 11], [4, 5, 30, 9, 9]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 0]]
    assert packed.segments.tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, -1, -1]]
    assert packed.num_tokens.tolist() == [3, 1, 2]


def test_second_answer_restarts_positions_behind_the_first() -> None:
    packed = pack_views([[1, 2]], [[[10, 11, 12], [20, 21, 22, 23]]], padding_id=0)
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2, 3, 4]]
    assert packed.segments.tolist() == [[0, 0, 1, 1, 2, 2, 2]]
    assert packed.columns.tolist() == [1, 2, 3, 1, 4, 5, 6]


def test_the_end_of_the_prefix_predicts_every_answers_first_token() -> None:
    packed = pack_views(PREFIXES, ANSWERS, padding_id=9)
    assert packed.targets.tolist() == [10, 11, 12, 20, 30, 31]
    assert packed.answers.tolist() == [0, 0, 0, 1, 2, 2]
    assert packed.rows.tolist() == [0, 0, 0, 0, 1, 1]
    assert packed.columns.tolist() == [2, 3, 4, 2, 1, 2]


def test_views_without_answers_have_nothing_to_predict() -> None:
    packed = pack_views(PREFIXES, [[], []], padding_id=0)
    assert packed.ids.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert packed.targets.shape == packed.num_tokens.shape == (0,)
    assert packed.targets.dtype == torch.int64


def test_answers_go_on_at_the_largest_position_of_any_row() -> None:
    """Three coordinates a token, as M-RoPE has them: a video takes fewer positions than it has tokens."""
    own = [torch.tensor([[0, 1, 1], [0, 1, 1], [0, 1, 4]]), torch.tensor([[0, 1]] * 3)]
    packed = pack_views(PREFIXES, ANSWERS, padding_id=9, positions=own)
    assert packed.positions.tolist() == [
        [[0, 1, 1, 5, 6], [0, 1, 2, 0, 0]],
        [[0, 1, 1, 5, 6], [0, 1, 2, 0, 0]],
        [[0, 1, 4, 5, 6], [0, 1, 2, 0, 0]],
    ]


def test_rows_have_one_answer_each_behind_a_copy_of_its_prefix() -> None:
    own = [torch.tensor([0, 1, 7]), None]
    rows = pack_views(PREFIXES, ANSWERS, padding_id=9, positions=own, layout="rows")
    assert rows.ids.tolist() == [[1, 2, 3, 10, 11], [1, 2, 3, 9, 9], [4, 5, 30, 9, 9]]
    assert rows.positions.tolist() == [[0, 1, 7, 8, 9], [0, 1, 7, 0, 0], [0, 1, 2, 0, 0]]
    assert rows.segments.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, -1, -1], [0, 0, 1, -1, -1]]
    assert rows.views == [0, 0, 1]
    assert rows.of_rows(torch.tensor([5, 6])).tolist() == [5, 5, 6]
    assert rows.columns.tolist() == [2, 3, 4, 2, 1, 2]
    assert rows.rows.tolist() == [0, 0, 0, 1, 2, 2]
    assert rows.answers.tolist() == [0, 0, 0, 1, 2, 2]


def test_mask_shows_prefix_and_own_past_only() -> None:
    segments = torch.tensor([[0, 0, 1, 1, 2, -1]])
    mask = shared_prefix_mask(segments)
    assert mask.shape == (1, 1, 6, 6)
    assert mask.dtype == torch.bool
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def test_mask_of_the_last_queries_is_the_end_of_the_whole_one() -> None:
    packed = pack_views(PREFIXES, ANSWERS, padding_id=0)
    assert packed.shared == 2
    last = shared_prefix_mask(packed.segments, packed.shared)
    assert torch.equal(last, shared_prefix_mask(packed.segments)[:, :, 2:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_additive_mask_is_zero_where_the_boolean_one_allows(dtype: torch.dtype) -> None:
    segments = pack_views(PREFIXES, ANSWERS, padding_id=0).segments
    allowed, additive = shared_prefix_mask(segments), shared_prefix_mask(segments, 0, dtype)
    assert additive.dtype == dtype
    assert torch.equal(additive == 0, allowed)
    assert (additive[~allowed] == torch.finfo(dtype).min).all()


def test_left_padding_keeps_the_order() -> None:
    values = torch.tensor([[1.0, 2, 3], [4, 5, 0], [6, 0, 0]])[..., None].expand(3, 3, 2)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    turned, turned_mask = left_padded(values, mask)
    assert turned[..., 1].tolist() == [[1, 2, 3], [0, 4, 5], [0, 0, 6]]
    assert turned_mask.int().tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
