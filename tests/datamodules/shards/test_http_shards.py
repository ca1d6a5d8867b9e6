"""Shards behind http: range requests, connections that drop, and the error when they never come back."""

from __future__ import annotations

import pickle
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datamodules.shards import index as index_module
from datamodules.shards.byte_reader import BadSampleError, ByteReader, ReadFailedError
from datamodules.shards.checks import load_index, shard_faults
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.loader import PlanLoader
from datamodules.stream.plan import PlannedBatch, TrainPlan
from datamodules.stream.recipe import Recipe, SampleRead
from tests.support.shard_samples import flip_byte, samples, small_shards

RETRY = ByteReader(attempts=3, backoff_s=0.001, timeout_s=2.0)
#: How long the server waits where it is to be too slow; after it the answer comes whole, and a read without a timeout
#: succeeds.
STALL_S = 5.0


class Handler(SimpleHTTPRequestHandler):
    """Serves ranges of files; `fail(path, number of this request)` says whether and how a request goes wrong."""

    def do_GET(self) -> None:
        server: Any = self.server
        if server.keeps_connections:
            self.protocol_version = "HTTP/1.1"
        byte_range = self.headers.get("Range")
        with server.lock:
            server.requests.append((self.path, byte_range))
            server.clients.add(self.client_address)
            failure = server.fail(self.path, sum(path == self.path for path, _ in server.requests))
        path = Path(self.directory) / self.path.lstrip("/")
        if isinstance(failure, int) or not path.exists():
            self.send_error(failure or 404)
            return
        content = path.read_bytes()
        if byte_range and not server.ignores_ranges:
            first, last = byte_range.removeprefix("bytes=").split("-")
            content = content[int(first) : int(last) + 1]
            self.send_response(206)
        else:
            self.send_response(200)
        if failure == "silent":
            server.released.wait(STALL_S)
        if failure in ("beside", "longer") and byte_range:
            start = int(first) + (failure == "beside")
            content = path.read_bytes()[start : int(last) + 2]
            if failure == "beside":
                self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{path.stat().st_size}")
        if failure == "short":
            content = content[: len(content) // 2]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if failure == "drips":
            with suppress(OSError):  # the reader has gone
                for number in range(len(content)):
                    self.wfile.write(content[number : number + 1])
                    self.wfile.flush()
                    time.sleep(0.1)
            self.close_connection = True
            return
        half = len(content) // 2
        with suppress(OSError):
            self.wfile.write(content[:half] if failure in ("drop", "stall") else content)
            if failure == "stall":
                self.wfile.flush()
                server.released.wait(STALL_S)
                self.wfile.write(content[half:])
        self.close_connection = not server.keeps_connections

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return small_shards(tmp_path)


@pytest.fixture
def server(index: Index, tmp_path: Path) -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as http:
        served: Any = http
        served.lock, served.requests, served.ignores_ranges = threading.Lock(), [], False
        served.fail = lambda path, number: None
        served.keeps_connections, served.clients, served.released = False, set(), threading.Event()
        served.address = f"http://127.0.0.1:{http.server_address[1]}/train.index.json"
        thread = threading.Thread(target=partial(http.serve_forever, poll_interval=0.01), daemon=True)
        thread.start()
        yield served
        served.released.set()
        http.shutdown()
        thread.join()


def tar_requests(server: Any) -> list[tuple[str, str]]:
    return [request for request in server.requests if request[0].endswith(".tar")]


def drops(times: int) -> Callable[[str, int], str | None]:
    """Each file's first requests are cut off half way."""
    return lambda path, number: "drop" if number <= times else None


def test_samples_come_by_one_range_request_each(index: Index, server: Any) -> None:
    remote = load_index(server.address, "vidpref/vista", RETRY)
    assert remote.fingerprint == index.fingerprint
    assert SampleReader(remote, RETRY).read(7) == list(samples(23))[7][1]
    ((path, byte_range),) = tar_requests(server)
    entry = index.entries[7].members
    assert path == "/train-000001.tar"
    assert byte_range == f"bytes={entry['json'].offset}-{entry['mp4'].offset + entry['mp4'].size - 1}"


def test_columns_are_fetched_once_and_sent_on_to_workers(
    index: Index, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "COLUMNS_FROM", 0)
    index.write(tmp_path / "train.index.json")
    server.fail = drops(1)
    remote = Index.read(server.address, reader=RETRY)
    worker = pickle.loads(pickle.dumps(remote))  # noqa: S301 its own
    assert (worker.entries, worker.fingerprint) == (index.entries, index.fingerprint)
    assert [path for path, _ in server.requests if path.endswith(".arrow")] == [server.requests[-1][0]] * 2
    server.fail = lambda path, number: 404 if path.endswith(".arrow") else None
    with pytest.raises(ValueError, match=r"\.arrow: no such file; it belongs to http.*train\.index\.json: copy it"):
        Index.read(server.address, reader=RETRY)


def test_dropped_connections_are_tried_again(server: Any) -> None:
    server.fail = drops(2)
    remote = Index.read(server.address, reader=RETRY)
    assert SampleReader(remote, RETRY).read(0) == next(samples(1))[1]
    assert len(tar_requests(server)) == 3


def test_an_answer_that_is_too_short_is_asked_for_again(server: Any) -> None:
    remote = Index.read(server.address, reader=RETRY)
    server.fail = lambda path, number: "short" if number == 1 else None
    assert SampleReader(remote, RETRY).read(0) == next(samples(1))[1]
    server.fail = lambda path, number: "short"
    with pytest.raises(ReadFailedError, match=r"sample 's001' cannot be read: ConnectionError: \d+ bytes came instead"):
        SampleReader(remote, RETRY).read(1)


def drips(path: str, number: int) -> str | None:
    return "drips" if number == 1 else None


def test_a_read_has_a_limit_as_a_whole_however_steadily_bytes_come(server: Any) -> None:
    hasty = ByteReader(attempts=2, backoff_s=0.001, timeout_s=0.5, least_rate=1e6)
    begin = time.monotonic()
    server.fail = drips
    remote = Index.read(server.address, reader=hasty)
    assert SampleReader(remote, hasty).read(0) == next(samples(1))[1]
    assert len(tar_requests(server)) == 2
    assert time.monotonic() - begin < 5
    server.fail = lambda path, number: "drips"
    with pytest.raises(ReadFailedError, match=r"'s001' cannot be read: TimeoutError: not all of it came within 1 s"):
        SampleReader(remote, hasty).read(1)
    with pytest.raises(ReadFailedError, match=r"train.index.json: cannot be read: ConnectionError: not all of it came"):
        hasty.read_all(server.address)
    assert time.monotonic() - begin < 10


def test_a_large_read_may_take_longer() -> None:
    assert ByteReader(timeout_s=30.0, least_rate=16384.0)._limit(2**24) == 30 + 1024


@pytest.mark.parametrize(
    ("failure", "message"), [("beside", "the server sent 'bytes"), ("longer", "bytes came instead")]
)
def test_a_wrong_range_is_a_fault_of_the_transport_and_asked_for_again(server: Any, failure: str, message: str) -> None:
    remote = Index.read(server.address, reader=RETRY)
    server.fail = lambda path, number: failure if number == 1 else None
    assert SampleReader(remote, RETRY).read(0) == next(samples(1))[1]
    assert len(tar_requests(server)) == 2
    server.fail = lambda path, number: failure
    with pytest.raises(ReadFailedError, match=f"cannot be read: ConnectionError: .*{message}"):
        SampleReader(remote, RETRY).read(1)


def test_a_busy_server_is_asked_again_and_one_that_forbids_is_not(server: Any) -> None:
    remote = Index.read(server.address, reader=RETRY)
    server.fail = lambda path, number: 503 if number == 1 else None
    SampleReader(remote, RETRY).read(0)
    server.fail = lambda path, number: 403
    with pytest.raises(ReadFailedError, match=r"train-000001.tar: sample 's008' cannot be read: .*403"):
        SampleReader(remote, RETRY).read(8)
    assert len([path for path, _ in tar_requests(server) if path == "/train-000001.tar"]) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_training_reads_over_http(server: Any, workers: int) -> None:
    """Also in processes forked from one that has read over http before."""
    server.fail = drops(1)
    remote = load_index(server.address, "vidpref/vista", RETRY)
    assert sorted(key for batch in loader(remote, workers) for key in batch) == [f"s{n:03d}" for n in range(22)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_server_that_is_gone_ends_in_an_error_even_where_bad_samples_are_skipped(server: Any, workers: int) -> None:
    remote = load_index(server.address, "vidpref/vista", RETRY)
    server.fail = lambda path, number: "drop" if path == "/train-000002.tar" else None
    with pytest.raises(ReadFailedError, match=r"http://.*/train-000002.tar: sample 's01\d' cannot be read"):
        list(loader(remote, workers, on_bad_sample="skip"))


def test_altered_bytes_are_seen_over_http(index: Index, server: Any) -> None:
    flip_byte(index, 3)
    with pytest.raises(BadSampleError, match=r"http://.*/train-000000.tar: sample 's003': .mp4 was altered"):
        SampleReader(Index.read(server.address), RETRY).read(3)


def test_checks_before_training_over_http(index: Index, server: Any) -> None:
    remote = load_index(server.address, "vidpref/vista", RETRY)
    Path(index.shards[1].address).unlink()
    Path(index.shards[2].address).write_bytes(b"short")
    first, second = shard_faults(remote, RETRY)
    assert "train-000001.tar: no such shard" in first
    assert "train-000002.tar: has 5 bytes" in second
    with pytest.raises(ValueError, match=r"absent.index.json: no such index"):
        Index.read(server.address.replace("train.", "absent."), reader=RETRY)


def test_a_server_that_does_not_answer_is_no_missing_shard(server: Any) -> None:
    remote = load_index(server.address, "vidpref/vista", RETRY)
    server.shutdown()
    server.server_close()
    assert re.search(r"train-000000.tar: cannot be read: \w*Connect\w*Error", shard_faults(remote, RETRY)[0])


def test_a_server_without_ranges_is_named(server: Any) -> None:
    remote = Index.read(server.address, reader=RETRY)
    server.ignores_ranges = True
    with pytest.raises(ReadFailedError, match="ignores range requests"):
        SampleReader(remote, RETRY).read(0)


def test_waiting_doubles_and_ends(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    waits: list[float] = []
    monkeypatch.setattr("datamodules.shards.byte_reader.time.sleep", waits.append)
    server.fail = lambda path, number: 500
    with pytest.raises(ReadFailedError, match="500"):
        ByteReader(attempts=7, backoff_s=0.5).read_all(server.address)
    assert waits == [0.5, 1, 2, 4, 8, 10]
    assert len(server.requests) == 7


@pytest.mark.parametrize("failure", ["silent", "stall"])
def test_a_server_that_stops_sending_counts_as_dropped_after_the_timeout(server: Any, failure: str) -> None:
    """Before its answer, and in the middle of one."""
    impatient = ByteReader(attempts=3, backoff_s=0.001, timeout_s=0.4)
    remote = Index.read(server.address, reader=impatient)
    server.fail = lambda path, number: failure if number == 1 else None
    assert SampleReader(remote, impatient).read(0) == next(samples(1))[1]
    assert len(tar_requests(server)) > 1, "the slow answer was given up and asked for again"
    server.fail = lambda path, number: failure
    started = time.monotonic()
    with pytest.raises(ReadFailedError, match=r"train-000000.tar: sample 's001' cannot be read: \w*Timeout"):
        SampleReader(remote, replace(impatient, attempts=2)).read(1)
    assert time.monotonic() - started < STALL_S


def test_reading_the_index_has_the_timeout_too(server: Any) -> None:
    server.fail = lambda path, number: "silent"
    with pytest.raises(ReadFailedError, match=r"train.index.json: cannot be read: \w*Timeout"):
        Index.read(server.address, reader=ByteReader(attempts=1, timeout_s=0.4))


def test_all_reads_share_one_session(server: Any) -> None:
    """A session for each read would stay open, with its connection, until the process ends."""
    server.keeps_connections = True
    for _ in range(3):
        reader = ByteReader(timeout_s=1.75)
        remote = Index.read(server.address, reader=reader)
        for position in (0, 7, 12):
            SampleReader(remote, reader).read(position)
    assert len(server.requests) == 12
    assert len(server.clients) == 1


class KeyLists(Recipe[list[str]]):
    """Batches of keys, of samples whose bytes are right."""

    def make_sample(self, sample: SampleRead) -> str:
        assert sample.members["mp4"] == sample.entry.key.encode() * 40
        return sample.entry.key

    def collate(self, samples: list[str], planned: PlannedBatch) -> list[str]:
        return samples


def loader(index: Index, workers: int, **changes: Any) -> PlanLoader[list[str]]:
    plan = TrainPlan(shard_counts=index.shard_counts, keep=range(22), batch_size=2)
    return PlanLoader(plan=plan, index=index, recipe=KeyLists(), num_workers=workers, reader=RETRY, **changes)
