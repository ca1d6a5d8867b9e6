"""One sequence per view: its prefix (video and prompt) once, and all its answers behind it.

Under the mask below an answer sees the prefix and itself, never another answer, and its positions go on where the
prefix ends. So every answer's hidden states equal those of a sequence that holds this answer alone, while the prefix,
which is nearly all of the work, is computed once. Pure tensor code: nothing here knows of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING, PREFIX = -1, 0


@dataclass(slots=True)
class PackedViews:
    """V views as rows of one right-padded batch of length T; N answer tokens of A answers to be predicted.

    Attributes:
        ids: (V, T) int64 token ids. An answer's last token is not among them: it is predicted and predicts nothing.
        positions: (V, T) int64 position ids; each answer starts at the length of its prefix.
        segments: (V, T) int64: -1 padding, 0 prefix, k the view's k-th answer, counted from 1.
        rows: (N,) int64, the row whose hidden state predicts each target.
        columns: (N,) int64, its column; the end of the prefix for the first token of every answer.
        targets: (N,) int64 token ids.
        answers: (N,) int64, the answer of each target, counted over all views.
        num_tokens: (A,) int64, targets per answer.
        shared: columns that are prefix in every row: the length of the shortest prefix.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    answers: Tensor
    num_tokens: Tensor
    shared: int


def pack_views(
    prefixes: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    padding_id: int,
    device: torch.device | None = None,
) -> PackedViews:
    """Lay out every view's prefix and answers, answer by answer in the order given.

    Args:
        prefixes: per view the token ids of its prefix, at least one.
        answers: per view and answer the token ids, the end of sequence included, at least one.
        padding_id: any id of the vocabulary; its positions are seen by nobody.
        device: where the tensors are put.
    """
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    segments: list[list[int]] = []
    predictions: list[tuple[int, int, int, int]] = []
    num_tokens: list[int] = []
    for row, (prefix, own) in enumerate(zip(prefixes, answers, strict=True)):
        ids.append(list(prefix))
        positions.append(list(range(len(prefix))))
        segments.append([PREFIX] * len(prefix))
        for segment, answer in enumerate(own, 1):
            start = len(ids[row])
            columns = [len(prefix) - 1, *range(start, start + len(answer) - 1)]
            predictions += [
                (row, column, token, len(num_tokens)) for column, token in zip(columns, answer, strict=True)
            ]
            num_tokens.append(len(answer))
            ids[row] += answer[:-1]
            positions[row] += range(len(prefix), len(prefix) + len(answer) - 1)
            segments[row] += [segment] * (len(answer) - 1)
    rows, places, targets, owners = torch.tensor(predictions, dtype=torch.int64, device=device).view(-1, 4).unbind(1)
    return PackedViews(
        ids=_padded(ids, padding_id, device),
        positions=_padded(positions, 0, device),
        segments=_padded(segments, PADDING, device),
        rows=rows,
        columns=places,
        targets=targets,
        answers=owners,
        num_tokens=torch.tensor(num_tokens, dtype=torch.int64, device=device),
        shared=min(map(len, prefixes), default=0),
    )


def shared_prefix_mask(segments: Tensor, first: int = 0, additive: torch.dtype | None = None) -> Tensor:
    """Who sees whom: the prefix causally, every answer the prefix and its own past, padding nothing but itself.

    Args:
        segments: (V, T) int64, see `PackedViews`.
        first: the first query to make a row for; `shared_attention` needs none for the columns that all rows share.
        additive: the type of a mask that is added to attention scores (0 or the type's lowest number), which eager
            attention needs: it would add a boolean one as 0 and 1, without an error. None = boolean.

    Returns:
        (V, 1, T - first, T); exactly four dimensions, because transformers passes only such a mask on unchanged.
    """
    columns = torch.arange(segments.shape[1], device=segments.device)
    behind = columns[first:, None] - columns
    query, key = segments[:, first:, None], segments[:, None, :]
    allowed = (behind >= 0) & (query != PADDING) & ((key == PREFIX) | (key == query))
    # The diagonal stays, since kernels differ in what they make of a row without any key.
    allowed |= behind == 0
    if additive is None:
        return allowed[:, None]
    mask = torch.zeros(allowed.shape, dtype=additive, device=segments.device)
    return mask.masked_fill_(~allowed, torch.finfo(additive).min)[:, None]


def left_padded(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the padding of right-padded rows to the left, as generation needs it.

    Args:
        values: (V, T, D).
        mask: (V, T) bool, True where a row has a value.

    Returns:
        values and mask, turned row by row.
    """
    length = mask.shape[1]
    turn = (torch.arange(length, device=mask.device) + mask.sum(1, keepdim=True)) % length
    return values.gather(1, turn[..., None].expand_as(values)), mask.gather(1, turn)


def _padded(rows: Sequence[Sequence[int]], value: int, device: torch.device | None) -> Tensor:
    """(V, T) with the rows at the left."""
    length = max(map(len, rows), default=0)
    full = [[*row, *[value] * (length - len(row))] for row in rows]
    return torch.tensor(full, dtype=torch.int64, device=device).view(len(rows), length)
