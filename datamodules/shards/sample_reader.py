"""The members of one sample, fetched by offset and checked against their checksums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from datamodules.shards.byte_reader import BadSampleError, ByteReader
from datamodules.shards.index import Index, Member, digest

#: Members closer than this are fetched by one read; a tar header is 512 bytes, sometimes 1536.
_GAP = 65536


@dataclass(frozen=True, slots=True, eq=False)
class SampleReader:
    """Random access to the samples of an index; holds no open file, so it can be sent to any process.

    Every read is checked, the first and all later ones: hashing costs about a thousandth of decoding.
    """

    index: Index
    reader: ByteReader = field(default_factory=ByteReader)

    def read(self, position: int, suffixes: Iterable[str] | None = None) -> dict[str, bytes]:
        """A sample's members by suffix.

        Args:
            position: the sample's position in the index.
            suffixes: of the members to read, without the leading dot; absent ones are left out. None = all.

        Raises:
            BadSampleError: a byte was altered; names shard and key.
            ReadFailedError: the bytes cannot be read; names shard and key.
        """
        entry, address = self.index.entries[position], self.index.address(position)
        selected = set(entry.members if suffixes is None else suffixes)
        members = {suffix: member for suffix, member in entry.members.items() if suffix in selected}
        content: dict[str, bytes] = {}
        for start, end in _spans(members.values()):
            data = self.reader.read(address, start, end - start, f"sample {entry.key!r}")
            for suffix, (offset, size, checksum) in members.items():
                if not (start <= offset and offset + size <= end):
                    continue
                content[suffix] = data[offset - start : offset - start + size]
                if digest(content[suffix]) != checksum:
                    raise BadSampleError(f"{address}: sample {entry.key!r}: .{suffix} was altered, checksums differ")
        return content


def _spans(members: Iterable[Member]) -> list[tuple[int, int]]:
    """Byte ranges, first and past-the-last, that cover the members with as few reads as is sensible."""
    spans: list[tuple[int, int]] = []
    for member in sorted(members):  # by offset, their first field
        end = member.offset + member.size
        if spans and member.offset - spans[-1][1] <= _GAP:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((member.offset, end))
    return spans
