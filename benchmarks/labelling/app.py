"""The page's server: an ASGI application whose every address begins with the token."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.labelling.agreement import AgreementView
from benchmarks.labelling.annotators import NameTakenError, UnknownSessionError
from benchmarks.labelling.label_file import ChangedFileError
from benchmarks.labelling.labelling import Labelling, StaleQuestionError
from benchmarks.labelling.media import video_response
from datamodules.shards.byte_reader import BadSampleError, ReadFailedError

_STATIC = Path(__file__).parent / "static"
#: Nothing comes from elsewhere, and no other site may show the page or learn its address.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: What went wrong -> status, and the word by which the page knows it.
_ERRORS: dict[type[Exception], tuple[int, str]] = {
    NameTakenError: (409, "name_taken"),
    UnknownSessionError: (409, "join"),
    StaleQuestionError: (409, "stale"),
    ChangedFileError: (409, "changed"),
    BadSampleError: (422, "bad_sample"),
    ReadFailedError: (502, "unreadable"),
    OSError: (507, "disk"),
    ValueError: (400, "request"),
}
_LARGEST_REQUEST = 65536
_LARGEST_PAGE = 100


def build_app(labelling: Labelling, view: AgreementView, token: str) -> Starlette:
    """The application.

    Args:
        labelling: what is asked and what is answered.
        view: the agreement of those who answered.
        token: the first part of every address; with another one the answer is 403.
    """
    routes = [
        *_label_routes(labelling),
        *_agreement_routes(view),
        Route("/media/{name}.mp4", _media(labelling)),
        # Last, because it takes every address that no route above has taken.
        Mount("/", StaticFiles(directory=_STATIC, html=True)),
    ]
    handlers: Mapping[Any, Callable[[Request, Exception], Response]] = dict.fromkeys(_ERRORS, _error)
    return Starlette(
        routes=[Mount("/{token}", routes=routes)],
        middleware=[Middleware(_Guard, token=token)],
        exception_handlers=handlers,
    )


class _Guard:
    """Middleware that lets nobody in without the token, and sends the headers of `_HEADERS` with every answer."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = {"Cache-Control": "no-store", **_HEADERS}
                # A handler's own header counts: the browser may keep videos, but nothing else.
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in added.items()
                        if name.lower().encode() not in present
                    ),
                ]
            await send(message)

        # In the path, not in a cookie: the page's own links are relative and keep it, and no other site can know it.
        first_part = scope["path"].lstrip("/").partition("/")[0]
        # In constant time: how long a refusal takes says nothing of how much of the token was right.
        if secrets.compare_digest(first_part.encode("utf-8", "surrogatepass"), self.token.encode()):
            await self.app(scope, receive, send_with_headers)
        else:
            refusal = PlainTextResponse(
                "Open the address that `vidpref label` printed: this one lacks its token.\n", 403
            )
            await refusal(scope, receive, send_with_headers)


def _error(request: Request, error: Exception) -> Response:
    # The first that fits: the special errors come before OSError and ValueError, whose kinds they are.
    status, code = next(known for kind, known in _ERRORS.items() if isinstance(error, kind))
    return JSONResponse({"error": str(error), "code": code}, status)


async def _body(request: Request) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
        ValueError: it is none, or too long.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        # Counted as it comes: the header that says the length may be wrong or missing.
        if len(content) > _LARGEST_REQUEST:
            raise ValueError("the request is too long")
    body = json.loads(content)
    if not isinstance(body, dict):
        raise ValueError("the request is no JSON object")
    return body


def _whole_number(request: Request, name: str, default: int) -> int:
    try:
        return int(request.query_params.get(name, default))
    except ValueError as error:
        raise ValueError(f"{name} is no whole number") from error


def _label_routes(labelling: Labelling) -> list[Route]:
    """What the page's first view asks for; disk and shards are read in threads, so that nobody waits for another."""

    def annotator(request: Request) -> str:
        return labelling.annotators.annotator(request.headers.get("x-session", ""))

    async def join(request: Request) -> Response:
        body = await _body(request)
        session = body.get("session")
        if not isinstance(session, str) or not 16 <= len(session) <= 64:
            raise ValueError("the window has no identity")
        return JSONResponse(await run_in_threadpool(labelling.join, session, body.get("annotator")))

    async def leave(request: Request) -> Response:
        labelling.annotators.leave(str((await _body(request)).get("session")))
        return Response(status_code=204)

    async def alive(request: Request) -> Response:
        annotator(request)
        return Response(status_code=204)

    async def question(request: Request) -> Response:
        name = annotator(request)
        if "before" in request.query_params:
            state = await run_in_threadpool(labelling.back, name, _whole_number(request, "before", 0))
        elif "number" in request.query_params:
            state = await run_in_threadpool(labelling.question, name, _whole_number(request, "number", 0))
        else:
            state = await run_in_threadpool(labelling.next, name, _whole_number(request, "after", -1))
        return JSONResponse(state)

    async def answer(request: Request) -> Response:
        name = annotator(request)
        return JSONResponse(await run_in_threadpool(labelling.answer, name, await _body(request)))

    return [
        Route("/api/join", join, methods=["POST"]),
        Route("/api/leave", leave, methods=["POST"]),
        Route("/api/alive", alive, methods=["POST"]),
        Route("/api/question", question),
        Route("/api/answer", answer, methods=["POST"]),
    ]


def _agreement_routes(view: AgreementView) -> list[Route]:
    async def summary(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(view.summary))

    async def rows(request: Request) -> Response:
        only = request.query_params.get("only") == "disagreements"
        offset = max(0, _whole_number(request, "offset", 0))
        limit = min(_LARGEST_PAGE, max(1, _whole_number(request, "limit", 20)))
        return JSONResponse(await run_in_threadpool(view.rows, only, offset, limit))

    return [Route("/api/agreement", summary), Route("/api/agreement/pairs", rows)]


def _media(labelling: Labelling) -> Callable[[Request], Awaitable[Response]]:
    async def media(request: Request) -> Response:
        name = labelling.pairs.media.get(request.path_params["name"])
        if name is None:
            raise HTTPException(404)
        return video_response(request, await run_in_threadpool(labelling.pairs.video, *name))

    return media
