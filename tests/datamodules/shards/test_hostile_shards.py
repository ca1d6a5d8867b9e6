"""Tars and indexes of somebody else's making: refused in a line, before memory is taken for what they claim."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vidpref
from datamodules.prepare.verify import verify
from datamodules.schemas import index_shards
from datamodules.shards.byte_reader import ByteReader, ReadFailedError
from datamodules.shards.index import Index
from tests.support.flow_shards import write_pairs
from tests.support.shard_samples import members_of, small_shards, tar_of

#: Far more than a test may take, and less than a machine may have.
HUGE = 1 << 36


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytearray:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return bytearray(info.tobuf(tarfile.GNU_FORMAT))


def sealed(block: bytearray) -> bytes:
    """A header with the right sum over its bytes."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def over_declared() -> bytes:
    return bytes(header("a.mp4", HUGE))


def over_declared_name() -> bytes:
    """The member that holds the next one's long name."""
    return bytes(header("././@LongLink", HUGE, tarfile.GNUTYPE_LONGNAME))


def gnu_sparse() -> bytes:
    """A kilobyte that declares 64 GiB."""
    block = header("a.mp4", 512, tarfile.GNUTYPE_SPARSE)
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"\x80" + HUGE.to_bytes(11, "big")
    return sealed(block) + b"x" * 512


def pax_sparse() -> bytes:
    """The same in the newer form."""
    buffer = io.BytesIO()
    info = tarfile.TarInfo("a.mp4")
    info.size = 512
    info.pax_headers = {"GNU.sparse.map": "0,512", "GNU.sparse.size": str(HUGE), "GNU.sparse.numblocks": "1"}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"x" * 512))
    return buffer.getvalue().rstrip(b"\0") + bytes(512)


def negative() -> bytes:
    """A size below 0, in base 256."""
    block = header("a.mp4", 0)
    block[124:136] = b"\xff" * 10 + b"\xf0\x00"
    return sealed(block)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (over_declared, r"a\.mp4 declares 68719476736 bytes and would end at byte 68719477248 of the file"),
        (over_declared_name, "is not a whole, uncompressed tar file"),
        (gnu_sparse, r"a\.mp4: is a sparse file"),
        (pax_sparse, r"a\.mp4: is a sparse file"),
        (negative, r"a\.mp4 declares -4096 bytes"),
    ],
)
def test_a_tar_that_claims_more_than_it_has_is_refused_before_it_is_read(
    tmp_path: Path, content: Callable[[], bytes], message: str
) -> None:
    path = tmp_path / "train-000000.tar"
    path.write_bytes(content() + bytes(2048))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"train-000000\.tar: .*{message}"):
            index_shards([path])
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_a_read_past_the_end_takes_no_memory_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * 100)
    tracemalloc.start()
    try:
        for offset, there in ((40, 60), (400, 0)):
            with pytest.raises(ReadFailedError, match=f"{there} bytes came instead of {HUGE}"):
                ByteReader().read(str(path), offset, HUGE, "sample 'a'")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert ByteReader().read(str(path), 90, 10, "sample 'a'") == b"x" * 10


def test_a_row_of_deep_nesting_is_refused(tmp_path: Path) -> None:
    for depth in (100, 100_000):
        members = {**members_of("s1"), "s1.json": b'{"source": ' + b"[" * depth + b"]" * depth + b"}"}
        with pytest.raises(ValueError, match=r"s1: \.json cannot be parsed: "):
            index_shards([tar_of(tmp_path / "train-000000.tar", members)])


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def sample_field(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["samples"][1].__setitem__(name, value)


def fact(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["samples"][1]["facts"].__setitem__(name, value)


def member(place: int, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["samples"][1]["members"]["mp4"].__setitem__(place, value)


def shard_field(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["shards"][0].__setitem__(name, value)


CLIP = {"frames": 0, "fps": 4.0, "width": 8, "height": 8}
FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "offset": (member(0, "5"), r"sample 's001': \.mp4 is \['5', \d+, '\w+'\], not two whole numbers"),
    "offset below 0": (member(0, -512), r"\.mp4 is \[-512, "),
    "offset true": (member(0, True), r"\.mp4 is \[True, "),
    "size": (member(1, 1e13), r"\.mp4 is \[\d+, 10000000000000\.0, "),
    "size past the shard": (member(1, 10**13), r"\.mp4 ends at byte 1000000000\d+, its shard has \d+"),
    "checksum": (member(2, None), r"\.mp4 is \[\d+, \d+, None\], not"),
    "member": (
        lambda content: content["samples"][1].__setitem__("members", {"mp4": [1, 2]}),
        r"\.mp4 is \[1, 2\], not",
    ),
    "members": (sample_field("members", []), r"members is \[\], not an object"),
    "shard": (sample_field("shard", 0.0), r"shard is 0\.0, not a whole number"),
    "shard below 0": (sample_field("shard", -1), r"shard is -1, not a whole number"),
    "shard beyond": (sample_field("shard", 7), "is in shard number 7, there are 1"),
    "key": (sample_field("key", 5), r"sample number 1 is .*, not an object with a key"),
    "facts": (sample_field("facts", None), r"sample 's001': facts is None, not an object"),
    "no frames": (lambda content: content["samples"][1]["facts"].pop("frames"), "facts have no frames"),
    "frames": (fact("frames", -1), "frames is -1, not a whole number from 1 on"),
    "frames as a text": (fact("frames", "8"), "frames is '8', not a whole number"),
    "fps": (fact("fps", float("nan")), "fps is nan, not a number above 0"),
    "width": (fact("width", 2.5), r"width is 2\.5, not a whole number"),
    "event": (fact("event", [1, "2"]), r"event is \[1, '2'\], not \[start, end\]"),
    "boxes": (fact("boxes", [[1, 2, 3]]), r"boxes is \[\[1, 2, 3\]\], not a list of \[x, y, width, height, time\]"),
    "clip": (fact("clip", CLIP), "clip is {'frames': 0, .*, not frames, fps, width and height of a video"),
    "deep facts": (fact("source", nested(300)), "facts is deeply nested, not an object of plain values"),
    "deep made_from": (
        lambda content: content.__setitem__("made_from", {"a": nested(300)}),
        "made_from is deeply nested",
    ),
    "made_from": (lambda content: content.__setitem__("made_from", [1]), r"made_from is \[1\], not an object"),
    "bytes": (shard_field("bytes", "9"), "shard number 0: bytes is '9', not a whole number"),
    "count": (shard_field("count", 2.0), r"shard number 0: count is 2\.0, not a whole number"),
    "name": (shard_field("name", None), "shard number 0: name is None, not a text"),
    "shards": (lambda content: content.__setitem__("shards", {}), "shards and samples are not both lists"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_field_of_an_index_has_its_type_and_range(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIDPREF_DEBUG", raising=False)
    change, message = FAULTS[name]
    small_shards(tmp_path, 3)
    path = tmp_path / "train.index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as failed:
        Index.read(path)
    assert "\n" not in str(failed.value) or name == "shard beyond"
    assert str(path) in str(failed.value)
    assert verify(path) == [str(failed.value)]
    assert vidpref.main(["prepare", "verify", str(path)]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_an_index_of_endless_nesting_is_no_index(tmp_path: Path) -> None:
    path = tmp_path / "train.index.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"train\.index\.json: is not an index"):
        Index.read(path)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    small_shards(tmp_path, 30, 30)
    path = tmp_path / "train.index.json"
    path.write_text(path.read_text().replace('"frames":8', '"frames":0'))
    with pytest.raises(ValueError, match=r"sample 's000': frames is 0.*sample 's009'.*; and 20 more") as failed:
        Index.read(path)
    assert "s010" not in str(failed.value)


def test_latent_shapes_are_checked_too(tmp_path: Path) -> None:
    path = Path(write_pairs(tmp_path, 1))
    content = json.loads(path.read_text())
    content["samples"][0]["facts"]["latent_shape"] = [4, 4, 0, 2]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"latent_shape is \[4, 4, 0, 2\], not four whole numbers from 1 on"):
        Index.read(path)
