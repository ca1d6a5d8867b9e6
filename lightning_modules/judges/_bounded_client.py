"""The HTTP client under the openai client: a reply has a limit as a whole, in time and in size.

Imported where the first request is made: with it comes the openai package, for which no `--help` should wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2

#: Bytes; a reply of a judge has some thousand.
_LONGEST_REPLY = 1 << 24


class BoundedClient(httpx2.Client):
    """HTTP client that gives up a reply that is not complete in time, and follows no redirect.

    httpx's own timeout is one for each read, so that a server that sends a byte now and then never times out. A
    redirect would send the key to another host, or turn POST into GET.

    Args:
        timeout_s: seconds from the request to the last byte of the reply.
        concurrency: connections at once.
    """

    def __init__(self, timeout_s: float, concurrency: int) -> None:
        limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        super().__init__(timeout=timeout_s, limits=limits, follow_redirects=False)
        self._timeout_s = timeout_s

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request; the body of its response may be read until the deadline."""
        deadline = time.monotonic() + self._timeout_s
        # As a stream, so that the body is read through `_BoundedStream` whoever reads it.
        response = super().send(request, stream=True, **options)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _BoundedStream(response.stream, request, deadline)
        if not stream:
            try:
                response.read()
            except BaseException:
                response.close()
                raise
        return response


class _BoundedStream(httpx2.SyncByteStream):
    """The bytes of a response until its deadline."""

    def __init__(self, stream: httpx2.SyncByteStream, request: httpx2.Request, deadline: float) -> None:
        self._stream, self._request, self._deadline = stream, request, deadline

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if time.monotonic() > self._deadline or size > _LONGEST_REPLY:
                raise httpx2.ReadTimeout("the reply was not complete in time", request=self._request)
            yield part

    def close(self) -> None:
        self._stream.close()
