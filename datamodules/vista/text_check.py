"""What a policy says of the texts of whole data sets, before any video is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from datamodules.shards.byte_reader import BadSampleError, ByteReader
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.planned_data import TextFaults
from datamodules.stream.sample_rows import sample_rows
from datamodules.vista.samples import AnswerName, PreferenceRow

#: Samples listed in a message.
LISTED = 10


def unusable_samples(
    index: Index, reader: ByteReader, names: Collection[AnswerName], num_frames: int, faults_of: TextFaults
) -> dict[str, str]:
    """Key -> shard, key and why, of every sample that is altered or whose texts the policy cannot take.

    Args:
        index: of the samples.
        reader: how bytes are fetched.
        names: the answers that the method scores.
        num_frames: frames of a view.
        faults_of: what the policy says of one prompt and its answers.

    Raises:
        ReadFailedError: bytes cannot be had.
    """
    unusable: dict[str, str] = {}
    for position, content in sample_rows(SampleReader(index, reader), range(len(index))):
        key = index.entries[position].key
        if isinstance(content, BadSampleError):
            unusable[key] = str(content)
            continue
        row = PreferenceRow.from_json(content)
        answers = {name: text for name in names if (text := getattr(row, name))}
        shape = (num_frames, row.video.height, row.video.width)
        # Text by text first, so that each faulty one is named; then the conversation, which is shown as a whole.
        faults = [fault for asked, answer in row.turns for fault in faults_of(asked, {"chosen": answer}, shape, ())]
        faults += faults_of(row.question, answers, shape, ())
        if row.turns and not faults:
            faults = faults_of(row.question, answers, shape, row.turns)
        if faults:
            unusable[key] = f"{index.address(position)}: sample {key!r}: {'; '.join(faults)}"
    return unusable


def listed(title: str, lines: Sequence[str]) -> str:
    """A message with a line for each sample: ten at most, and how many more there are."""
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join([title, *(f"  {line}" for line in lines[:LISTED]), *more])
