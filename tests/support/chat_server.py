"""A chat endpoint on loopback that answers as it is told: well, slowly, not at all, or nonsense."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: (body, number of this request from 1) -> a reply's text, or one of the failures below, or (status, headers, body).
Behaviour = Callable[[dict[str, Any], int], Any]
DROP, CUT, HANG, NONSENSE, EMPTY = "<drop>", "<cut>", "<hang>", "<nonsense>", "<empty>"
#: A byte now and then, never the end; and nothing at all. Both last until the server closes.
DRIP, SILENT = "<drip>", "<silent>"


class ChatServer:
    """What the server was asked, and how it answers; `answer` may be changed at any time."""

    def __init__(self) -> None:
        self.answer: Behaviour = lambda body, number: "fine"
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        chat: ChatServer = self.server.chat  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with chat.lock:
            chat.requests.append(body)
            chat.headers.append({name.title(): value for name, value in self.headers.items()})
            chat.times.append(time.monotonic())
            chat.at_once += 1
            chat.most_at_once = max(chat.most_at_once, chat.at_once)
            number = len(chat.requests)
        content = chat.answer(body, number)
        with chat.lock:  # before the client can know that it is answered
            chat.at_once -= 1
        self._answer(content)

    def _answer(self, answer: Any) -> None:
        self.close_connection = True
        if answer == DROP:
            return
        chat: ChatServer = self.server.chat  # type: ignore[attr-defined]
        if answer == HANG:
            chat.closing.wait(3)
            return
        if answer == SILENT:
            chat.closing.wait(20)
            return
        if answer == DRIP:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            with suppress(OSError):  # the client has gone
                for _ in range(1000):
                    self.wfile.write(b" ")
                    if chat.closing.wait(0.05):
                        return
            return
        status, headers, content = answer if isinstance(answer, tuple) else (200, {}, completion(answer))
        data = content.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if answer == CUT else data)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def completion(content: str) -> str:
    if content == NONSENSE:
        return "<html>Bad gateway, have a nice day</html>"
    message: dict[str, Any] = {"role": "assistant", "content": None if content == EMPTY else content}
    usage = {"prompt_tokens": 100, "completion_tokens": 7}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        chat = ChatServer()
        http.chat = chat  # type: ignore[attr-defined]
        chat.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=partial(http.serve_forever, poll_interval=0.01), daemon=True)
        thread.start()
        try:
            yield chat
        finally:
            chat.closing.set()
            http.shutdown()
            thread.join()
