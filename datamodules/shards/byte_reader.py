"""Bytes by address, offset and size: local files by seek, http(s) and s3 by range request, with bounded retries."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from datamodules.user_files import user_file

_SCHEMES = ("http", "https", "s3")
_Result = TypeVar("_Result")
#: Bytes whose time a whole file may take where its size is not known, and the most of it: 16 MiB.
_UNKNOWN_SIZE = 2**24


class BadSampleError(ValueError):
    """A sample that cannot be used: altered bytes, an undecodable video. `on_bad_sample: skip` passes over it."""


class ReadFailedError(OSError):
    """Bytes that could not be read in spite of all retries. Never skipped: the next sample would fail as well."""


def check_address(address: str) -> str:
    """The address, if it is a local path or an http(s) or s3 address.

    Raises:
        ValueError: another scheme, a ``pipe:`` command or a chained address among them.
    """
    scheme, separator, _ = address.partition(":")
    if separator and "/" not in scheme and ("::" in address or scheme not in _SCHEMES):
        raise ValueError(f"{address!r} is refused; give a local path or an http://, https:// or s3:// address")
    return address


def is_remote(address: str) -> bool:
    """Whether fsspec must fetch it."""
    return address.partition(":")[0] in _SCHEMES


@dataclass(frozen=True, slots=True)
class ByteReader:
    """Reads byte ranges; holds no file or connection, so it can be sent to any process.

    Attributes:
        attempts: how often a read is tried in all.
        backoff_s: seconds to wait after the first failure; doubles with each one, up to 10 s.
        timeout_s: seconds without a byte after which an http connection counts as dropped.
        least_rate: bytes a second; a remote read that is not done after `timeout_s` and the time that its size takes at
            this rate is given up and tried again, however steadily single bytes come.
    """

    attempts: int = 5
    backoff_s: float = 0.5
    timeout_s: float = 30.0
    least_rate: float = 16384.0

    def read(self, address: str, offset: int, size: int, what: str) -> bytes:
        """``size`` bytes from ``offset`` on.

        Args:
            address: a local path or an http(s) or s3 address.
            offset: the first byte.
            size: the number of bytes.
            what: whose bytes these are, for the error ("sample 'a'").

        Raises:
            ReadFailedError: all attempts failed, or trying again is pointless; names address and ``what``.
        """
        try:
            return self._retried(lambda: self._range(address, offset, size))
        except Exception as error:
            raise ReadFailedError(f"{address}: {what} cannot be read: {_reason(error)}") from error

    def read_all(self, address: str) -> bytes:
        """A whole small file.

        Raises:
            FileNotFoundError: there is none.
            ReadFailedError: all attempts failed.
            ValueError: a named pipe, whose read would wait.
        """
        path = None if is_remote(address) else user_file(address)
        try:
            if path is not None:
                return self._retried(path.read_bytes)
            fetch, limit = _http_whole if _is_http(address) else _s3_whole, self._limit(_UNKNOWN_SIZE)
            return self._retried(lambda: self._awaited(address, limit, fetch, address, self._limit))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ReadFailedError(f"{address}: cannot be read: {_reason(error)}") from error

    def size(self, address: str) -> int | None:
        """The file's bytes; None where a server does not say.

        Raises:
            FileNotFoundError: there is none.
            ReadFailedError: all attempts failed.
        """
        try:
            return self._retried(lambda: self._size(address))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ReadFailedError(f"{address}: cannot be read: {_reason(error)}") from error

    def _retried(self, fetch: Callable[[], _Result]) -> _Result:
        for attempt in range(self.attempts - 1):  # the last one, below, lets its error through
            try:
                return fetch()
            except Exception as error:
                if not _may_pass(error):
                    raise
            time.sleep(min(self.backoff_s * 2**attempt, 10.0))
        return fetch()

    def _range(self, address: str, offset: int, size: int) -> bytes:
        # HTTP has no range of no bytes.
        if not size:
            return b""
        if is_remote(address):
            fetch = _http_range if _is_http(address) else _s3_range
            data = self._awaited(address, self._limit(size), fetch, address, offset, size)
        else:
            with user_file(address).open("rb") as file:
                # Python takes the memory for all that is asked for before it sees how much there is.
                file_size = os.fstat(file.fileno()).st_size
                file.seek(offset)
                data = file.read(min(size, max(0, file_size - offset)))
        if len(data) > size:
            raise ConnectionError(f"{len(data)} bytes came instead of {size}")
        if len(data) < size:
            cut = f"{len(data)} bytes came instead of {size}"
            raise ConnectionError(cut) if is_remote(address) else EOFError(f"{cut}, the file was cut short")
        return data

    def _limit(self, size: int) -> float:
        """Seconds that one attempt at so many bytes may take as a whole."""
        return self.timeout_s + size / self.least_rate

    def _awaited(self, address: str, limit_s: float, fetch: Callable[..., Awaitable[_Result]], *given: Any) -> _Result:
        """What a coroutine of the address's file system gives; it is cancelled after `limit_s` seconds."""
        from fsspec.asyn import sync

        filesystem = self._filesystem(address)
        try:
            result: _Result = sync(filesystem.loop, fetch, filesystem, *given, timeout=limit_s)
        except TimeoutError as error:
            if str(error):  # a timeout of the connection, which says what it waited for; fsspec's own is empty
                raise
            raise TimeoutError(f"not all of it came within {limit_s:.0f} s") from error
        return result

    def _size(self, address: str) -> int | None:
        if not is_remote(address):
            return Path(address).stat().st_size
        try:
            size: int | None = self._awaited(address, 2 * self.timeout_s, _info, address)["size"]
        except FileNotFoundError as error:
            # For http, fsspec says so of a server that refuses or does not answer, too.
            cause = error.__cause__
            if isinstance(cause, Exception) and getattr(cause, "status", None) != 404:
                raise cause from None
            raise
        return size

    def _filesystem(self, address: str) -> Any:
        """One instance: fsspec keeps one instance per process and options, and starts afresh after a fork."""
        import fsspec

        scheme = urlsplit(address).scheme
        options: dict[str, Any] = {}
        if _is_http(address):
            from aiohttp import ClientTimeout

            # No total: it would be the same for a large read as for a small one.
            timeout = ClientTimeout(total=None, sock_connect=self.timeout_s, sock_read=self.timeout_s)
            options["client_kwargs"] = {"timeout": timeout}
        return fsspec.filesystem(scheme, **options)


def _is_http(address: str) -> bool:
    return urlsplit(address).scheme in ("http", "https")


def _require_found(answer: Any, address: str) -> None:
    if answer.status == 404:
        raise FileNotFoundError(address)
    answer.raise_for_status()


async def _http_range(filesystem: Any, address: str, offset: int, size: int) -> bytes:
    """A range by one request, with a check that fsspec does not make: that the answer is this range.

    Raises:
        ValueError: the server sends whole files.
        ConnectionError: it sent another range, as a confused cache does; trying again may help.
    """
    content_range = f"bytes {offset}-{offset + size - 1}"
    session = await filesystem.set_session()
    headers = {"Range": content_range.replace(" ", "=")}
    async with session.get(filesystem.encode_url(address), headers=headers) as answer:
        _require_found(answer, address)
        # 200 is the whole file, which is the range where it is all of it.
        if answer.status != 206 and (offset or answer.content_length != size):
            raise ValueError("the server ignores range requests and sends whole files; serve shards from another one")
        sent = answer.headers.get("Content-Range", content_range)
        if sent.partition("/")[0].strip() != content_range:
            raise ConnectionError(f"the server sent {sent!r} where {content_range!r} was asked for")
        data: bytes = await answer.read()
    return data


async def _info(filesystem: Any, address: str) -> dict[str, Any]:
    info: dict[str, Any] = await filesystem._info(address)
    return info


async def _s3_range(filesystem: Any, address: str, offset: int, size: int) -> bytes:
    data: bytes = await filesystem._cat_file(address, start=offset, end=offset + size)
    return data


async def _http_whole(filesystem: Any, address: str, limit: Callable[[int], float]) -> bytes:
    """A whole file; where the server says how long it is, within the time that it may take.

    Raises:
        ConnectionError: it takes longer.
    """
    session = await filesystem.set_session()
    async with session.get(filesystem.encode_url(address)) as answer:
        _require_found(answer, address)
        seconds = limit(min(answer.content_length or _UNKNOWN_SIZE, _UNKNOWN_SIZE))
        try:
            data: bytes = await asyncio.wait_for(answer.read(), seconds)
        except TimeoutError as error:
            raise ConnectionError(f"not all of it came within {seconds:.0f} s") from error
    return data


async def _s3_whole(filesystem: Any, address: str, limit: Callable[[int], float]) -> bytes:
    data: bytes = await filesystem._cat_file(address)
    return data


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help: not for what is absent, forbidden or a mistake in the request."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        # 408 and 429 are the two of the 400s that hold for the moment alone.
        return status >= 500 or status in (408, 429)
    permanent = (FileNotFoundError, PermissionError, IsADirectoryError, EOFError, ValueError, ImportError)
    return not isinstance(error, permanent)


def _reason(error: Exception) -> str:
    # Some exceptions have no text, and their name is all that can be said.
    return f"{type(error).__name__}: {error}".rstrip(": ")
