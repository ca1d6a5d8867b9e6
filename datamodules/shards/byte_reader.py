"""Bytes by address, offset and size: local files by seek, http(s) and s3 by range request, with bounded retries."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

_SCHEMES = ("http", "https", "s3")
_Result = TypeVar("_Result")


class BadSampleError(ValueError):
    """A sample that cannot be used: altered bytes, an undecodable video. `on_bad_sample: skip` passes over it."""


class ReadFailedError(OSError):
    """Bytes that could not be had in spite of all retries. Never skipped: the next sample would fail as well."""


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
    """

    attempts: int = 5
    backoff_s: float = 0.5
    timeout_s: float = 30.0

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
            raise ReadFailedError(f"{address}: {what} cannot be read: {_told(error)}") from error

    def read_all(self, address: str) -> bytes:
        """A whole small file.

        Raises:
            FileNotFoundError: there is none.
            ReadFailedError: all attempts failed.
        """
        try:
            return self._retried(lambda: self._whole(address))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ReadFailedError(f"{address}: cannot be read: {_told(error)}") from error

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
            raise ReadFailedError(f"{address}: cannot be read: {_told(error)}") from error

    def _retried(self, fetch: Callable[[], _Result]) -> _Result:
        for attempt in range(self.attempts - 1):
            try:
                return fetch()
            except Exception as error:
                if not _may_pass(error):
                    raise
            time.sleep(min(self.backoff_s * 2**attempt, 10.0))
        return fetch()

    def _range(self, address: str, offset: int, size: int) -> bytes:
        if not size:
            return b""
        if is_remote(address):
            data: bytes = self._filesystem(address).cat_file(address, start=offset, end=offset + size)
        else:
            with Path(address).open("rb") as file:
                # Python takes the memory for all that is asked for before it sees how much there is.
                size_there = os.fstat(file.fileno()).st_size
                file.seek(offset)
                data = file.read(min(size, max(0, size_there - offset)))
        if len(data) > size:
            raise ValueError("the server ignores range requests and sends whole files; serve shards from another one")
        if len(data) < size:
            cut = f"{len(data)} bytes came instead of {size}"
            raise ConnectionError(cut) if is_remote(address) else EOFError(f"{cut}, the file was cut short")
        return data

    def _whole(self, address: str) -> bytes:
        if is_remote(address):
            data: bytes = self._filesystem(address).cat_file(address)
            return data
        return Path(address).read_bytes()

    def _size(self, address: str) -> int | None:
        if not is_remote(address):
            return Path(address).stat().st_size
        try:
            size: int | None = self._filesystem(address).info(address)["size"]
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
        if scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            timeout = ClientTimeout(total=None, sock_connect=self.timeout_s, sock_read=self.timeout_s)
            options["client_kwargs"] = {"timeout": timeout}
        return fsspec.filesystem(scheme, **options)


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help: not for what is absent, forbidden or a mistake in the request."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status >= 500 or status in (408, 429)
    hopeless = (FileNotFoundError, PermissionError, IsADirectoryError, EOFError, ValueError, ImportError)
    return not isinstance(error, hopeless)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
