"""``vidpref label``: the labelling page on this machine."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import sys
import webbrowser
from collections import Counter
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from datamodules.dense.segments import Granularity
from datamodules.shards.output_lock import locks_output

#: So many ports are tried.
_PORTS = 50
_MISSING = "the labelling page needs {}: pip install -c constraints.txt -e '.[label]'"


@locks_output("output")
def label_pairs(
    pairs: str,
    output: str = "labels.csv",
    granularity: Granularity = "segments",
    segment_seconds: float = 1.0,
    repeats: float = 0.1,
    seed: int = 0,
    judges: str | list[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    open_browser: bool = True,
) -> None:
    """Open a page on which people say which video of a pair is better; docs/labelling.md describes it.

    Args:
        pairs: index file of the pairs' shards.
        output: the CSV file of labels; labelling goes on where it has got to.
        granularity: ask about each segment, or once about the whole video.
        segment_seconds: length of a segment; give the same to `vidpref prepare labels`.
        repeats: the share of questions that is asked twice, the second time with the sides swapped.
        seed: decides the order of pairs, the sides and what is asked twice.
        judges: an index file of other labels of these pairs, or a list of them, to be compared in the agreement view.
        host: the address that the page can be reached at; the default is this machine alone.
        port: of the page; if it is in use, the next free one is taken.
        token: the secret part of the page's address; without it a random one each time.
        open_browser: open the page in a browser, where there is one.

    Raises:
        ValueError: an extra is not installed, the pairs or labels cannot be used, or a setting is out of its range.
        LockedError: another process writes the same file.
    """
    _check(port, token)
    # Imported here: without the extra, the lines above say what is missing.
    from benchmarks.labelling.agreement import AgreementView, read_judge
    from benchmarks.labelling.app import build_app
    from benchmarks.labelling.label_file import LabelFile
    from benchmarks.labelling.labelling import Labelling
    from benchmarks.labelling.pairs import ShownPairs

    shown = ShownPairs(pairs, granularity, segment_seconds)
    compared = [read_judge(path, shown) for path in ([judges] if isinstance(judges, str) else judges or ())]
    file = LabelFile(output)
    if file.repaired:
        print(file.repaired)
    token = token or secrets.token_urlsafe(16)
    app = build_app(Labelling(shown, file, repeats, seed), AgreementView(shown, file, compared), token)
    with bound_socket(host, port) as listener:
        address = _introduce(listener, host, port, token, f"{len(shown)} pairs; answers go to {output}")
        if open_browser and _has_screen():
            webbrowser.open(address)
        _serve(app, listener)
    _summarise(file, pairs, segment_seconds)


def _check(port: int, token: str | None) -> None:
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise ValueError(_MISSING.format(" and ".join(missing)))
    if not 0 <= port <= 65535 - _PORTS:
        raise ValueError(f"port is {port}; give 0 (any free one) to {65535 - _PORTS}")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{8,}", token):
        raise ValueError("token: give 8 or more letters, digits, - or _")


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound to a port, or to the next one that is free.

    Raises:
        OSError: no such address on this machine, or no permission.
        ValueError: many ports in a row are in use.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    for candidate in range(port, port + _PORTS if port else 1):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # a port that was used a moment ago is free; elsewhere this would share one in use
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address[0], candidate, *address[2:]))
            listener.listen()
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return listener
    raise ValueError(f"ports {port} to {port + _PORTS - 1} are all in use; give another --port")


def _serve(app: Any, listener: socket.socket) -> None:
    """Serve until Ctrl+C or SIGTERM."""
    import uvicorn

    # Browsers keep connections open for videos: without a limit the end would wait for them.
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, lifespan="off")
    try:
        uvicorn.Server(settings).run(sockets=[listener])
    except KeyboardInterrupt:
        print()  # behind the ^C that the terminal shows


def _introduce(listener: socket.socket, host: str, port: int, token: str, title: str) -> str:
    """Print the page's address, and what there is to know of it; returns the address."""
    bound_port = listener.getsockname()[1]
    if port not in (0, bound_port):
        print(f"port {port} is in use; taken instead: {bound_port}")
    # An IPv6 address holds colons itself: its brackets keep the port apart.
    address = f"http://{f'[{host}]' if ':' in host else host}:{bound_port}/{token}/"
    print(f"{title}. The page (end it with Ctrl+C):\n  {address}")
    if not _is_loopback(host):
        print(
            "The page can be reached from other machines, and the connection is not encrypted: whoever has the address "
            "sees the videos and can add labels."
        )
    sys.stdout.flush()  # a pipe would hold the address back until the page has ended
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_screen() -> bool:
    """Whether a browser opens in a window of its own: over ssh a text browser would take the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _summarise(file: Any, pairs: str, segment_seconds: float) -> None:
    counts = Counter(judgement.annotator or "unnamed" for judgement in file.judgements)
    print(
        f"{file.path}: {', '.join(f'{count} answers by {name}' for name, count in counts.items()) or 'no answers yet'}"
    )
    if counts:
        length = "" if segment_seconds == 1 else f" --segment_seconds {segment_seconds:g}"
        name = Path(file.path).with_suffix("")
        print(f"as label shards: vidpref prepare labels {file.path} {pairs} {name}{length} --incomplete skip")
