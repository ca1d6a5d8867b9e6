"""Views and their answers as rows of one batch, packed or one row an answer.

Packed, a view is one row: its prefix (video and prompt) once, and all its answers behind it. Under the mask below an
answer sees the prefix and itself, never another answer, and its positions go on where the prefix ends. So every
answer's hidden states equal those of a sequence that holds this answer alone, while the prefix, which is nearly all of
the work, is computed once. Where tokens are mixed by more than attention under a mask (a recurrent state, a window, a
block of vision tokens that see each other), each answer needs a row of its own. Pure tensor code: nothing here knows of
a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.vista.samples import View
from lightning_modules.policies.transfer import sent

PADDING, PREFIX = -1, 0

#: packed = a view's answers behind one prefix; rows = one row an answer.
Layout = Literal["packed", "rows"]


@dataclass(slots=True)
class Prefix:
    """A view before its answers.

    Attributes:
        ids: L token ids, a placeholder for each feature of the video where the family puts it.
        view: whose frames the tower is shown.
        positions: (L,) or (R, L) int64 as the model counts them, in R rows where a position has several coordinates;
            an answer goes on at the largest + 1, in every row. None = 0 to L - 1.
        inputs: pixels and what describes them (grids, seconds), by the model's own names.
        pooling: side of the squares of a frame's tokens that are averaged, see `TokenPooling`.
    """

    ids: list[int]
    view: View
    positions: Tensor | None = None
    inputs: dict[str, Tensor] = field(default_factory=dict)
    pooling: int = 1


@dataclass(slots=True)
class PackedViews:
    """V rows, right-padded to length T; N answer tokens of A answers to be predicted.

    Attributes:
        ids: (V, T) int64 token ids. An answer's last token is not among them: it is predicted and predicts nothing.
        positions: (V, T) or (R, V, T) int64 position ids; each answer starts where its prefix ends.
        segments: (V, T) int64: -1 padding, 0 prefix, k the view's k-th answer, counted from 1.
        rows: (N,) int64, the row whose hidden state predicts each target.
        columns: (N,) int64, its column; the end of the prefix for the first token of every answer.
        targets: (N,) int64 token ids.
        answers: (N,) int64, the answer of each target, counted over all views.
        num_tokens: (A,) int64, targets per answer.
        shared: columns that are prefix in every row: the length of the shortest prefix.
        views: the view that each of the V rows shows.
        features: placeholders of the video in each of the V rows; [] = nobody counted them.
        places: (n,) int64, the placeholders among the V * T tokens, row by row; None = nobody looked for them.
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
    views: list[int]
    features: list[int] = field(default_factory=list)
    places: Tensor | None = None

    def of_rows(self, per_view: Tensor) -> Tensor:
        """What the (views, ...) of a tensor are for the V rows."""
        if self.views == list(range(len(per_view))):
            return per_view
        return per_view[sent(torch.tensor(self.views), per_view.device)]

    def sent(self, device: torch.device) -> PackedViews:
        """The same on a device, for which nothing waits."""
        tensors = (item.name for item in fields(self) if isinstance(getattr(self, item.name), Tensor))
        moved: dict[str, Any] = {name: sent(getattr(self, name), device) for name in tensors}
        return replace(self, **moved)


@dataclass(slots=True)
class Encoded:
    """What policy and reference share of a batch's views.

    Attributes:
        packed: the token ids, in the policy's layout.
        vision: what `see` made of the views' pixels, without a gradient; the family's own.
        kept: (K,) int64, the tokens (of N) whose hidden states are kept.
        hidden_answer: (K,) int64, their answers; None when no hidden state is kept.
    """

    packed: PackedViews
    vision: tuple[Any, ...]
    kept: Tensor
    hidden_answer: Tensor | None


def pack_views(
    prefixes: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    padding_id: int,
    positions: Sequence[Tensor | None] | None = None,
    layout: Layout = "packed",
) -> PackedViews:
    """Lay out every view's prefix and answers on the CPU, answer by answer in the order given.

    Args:
        prefixes: per view the token ids of its prefix, at least one.
        answers: per view and answer the token ids, the end of sequence included, at least one.
        padding_id: any id of the vocabulary; its positions are seen by nobody.
        positions: per view those of its prefix, see `Prefix`; None = 0, 1, 2 ...
        layout: rows = every answer behind a copy of its prefix, alone in its row.
    """
    views = list(range(len(prefixes)))
    starts = _starts(prefixes, positions)
    if layout == "rows":
        views = [view for view, own in enumerate(answers) for _ in own]
        answers = [[answer] for own in answers for answer in own]
        prefixes, starts = [prefixes[view] for view in views], [starts[view] for view in views]
    ids: list[list[int]] = []
    segments: list[list[int]] = []
    predictions: list[tuple[int, int, int, int]] = []
    num_tokens: list[int] = []
    for row, (prefix, own) in enumerate(zip(prefixes, answers, strict=True)):
        ids.append(list(prefix))
        segments.append([PREFIX] * len(prefix))
        for segment, answer in enumerate(own, 1):
            start = len(ids[row])
            # The prefix's last token predicts the first token of every answer, wherever that stands in the row.
            columns = [len(prefix) - 1, *range(start, start + len(answer) - 1)]
            predictions += [
                (row, column, token, len(num_tokens)) for column, token in zip(columns, answer, strict=True)
            ]
            num_tokens.append(len(answer))
            ids[row] += answer[:-1]
            segments[row] += [segment] * (len(answer) - 1)
    rows, places, targets, owners = torch.tensor(predictions, dtype=torch.int64).view(-1, 4).unbind(1)
    return PackedViews(
        ids=_padded(ids, padding_id),
        positions=_positions(starts, answers, max(map(len, ids), default=0)),
        segments=_padded(segments, PADDING),
        rows=rows,
        columns=places,
        targets=targets,
        answers=owners,
        num_tokens=torch.tensor(num_tokens, dtype=torch.int64),
        shared=min(map(len, prefixes), default=0),
        views=views,
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
    # Causal by column: an answer's tokens are in order, whatever positions they have.
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
    # Column c takes what is `length of the row` columns further, around the end.
    turn = (torch.arange(length, device=mask.device) + mask.sum(1, keepdim=True)) % length
    return values.gather(1, turn[..., None].expand_as(values)), mask.gather(1, turn)


def _starts(prefixes: Sequence[Sequence[int]], positions: Sequence[Tensor | None] | None) -> list[Tensor]:
    """The positions of each prefix."""
    own = [None] * len(prefixes) if positions is None else positions
    pairs = zip(prefixes, own, strict=True)
    return [torch.arange(len(prefix)) if given is None else given.cpu() for prefix, given in pairs]


def _positions(starts: Sequence[Tensor], answers: Sequence[Sequence[Sequence[int]]], length: int) -> Tensor:
    """(V, T) or (R, V, T): each prefix's own positions, answers from the largest + 1 on, 0 at padding."""
    rows = []
    for start, own in zip(starts, answers, strict=True):
        # Not the number of tokens: where positions have rows, a video takes fewer of them than it has tokens.
        first = int(start.max()) + 1
        behind = [torch.arange(first, first + len(answer) - 1).expand(*start.shape[:-1], -1) for answer in own]
        row = torch.cat([start, *behind], dim=-1)
        rows.append(torch.nn.functional.pad(row, (0, length - row.shape[-1])))
    return torch.stack(rows, dim=-2) if rows else torch.zeros(0, length, dtype=torch.int64)


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(V, T) with the rows at the left."""
    length = max(map(len, rows), default=0)
    full = [[*row, *[value] * (length - len(row))] for row in rows]
    return torch.tensor(full, dtype=torch.int64).view(len(rows), length)
