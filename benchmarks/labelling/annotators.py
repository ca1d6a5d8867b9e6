"""Who is labelling at this moment: one window for each name."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

#: Seconds without a report after which a window counts as closed; an open one reports every 5 seconds.
SILENCE_S = 20.0
_LONGEST_NAME = 40


class NameTakenError(ValueError):
    """Somebody labels under this name in another window."""


class UnknownSessionError(ValueError):
    """The server does not know the window: it was started again, or the window has been silent."""


@dataclass(slots=True)
class _Window:
    annotator: str
    last_seen: float


def clean_name(name: object) -> str:
    """An annotator's name without blanks around it.

    Raises:
        ValueError: it is empty, too long, or has characters that cannot be seen.
    """
    # One letter may be typed as two characters: however a keyboard makes it, Zoë is one annotator.
    text = unicodedata.normalize("NFC", name).strip() if isinstance(name, str) else ""
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        raise ValueError(f"give a name of 1 to {_LONGEST_NAME} visible characters")
    return text


class Annotators:
    """The open windows, by the identity that each has drawn for itself.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def join(self, session: str, annotator: str) -> None:
        """Let a window label under a name.

        Raises:
            NameTakenError: another window does.
        """
        with self._lock:
            now = self._clock()
            # Forgotten only now: until somebody joins, a window that has gone silent takes a name from nobody.
            self._windows = {key: window for key, window in self._windows.items() if now - window.last_seen < SILENCE_S}
            for other, window in self._windows.items():
                if other != session and window.annotator.casefold() == annotator.casefold():
                    raise NameTakenError(
                        f"{window.annotator} is labelling in another window. Go on there, or choose another name; if "
                        f"that window is gone, try again in {SILENCE_S - (now - window.last_seen):.0f} seconds."
                    )
            self._windows[session] = _Window(annotator, now)

    def annotator(self, session: str) -> str:
        """The annotator of a window; the call counts as a report of the window.

        Raises:
            UnknownSessionError: it has none; the window has to join first.
        """
        with self._lock:
            window = self._windows.get(session)
            if window is None or self._clock() - window.last_seen >= SILENCE_S:
                raise UnknownSessionError("this window has to join again")
            window.last_seen = self._clock()
            return window.annotator

    def leave(self, session: str) -> None:
        """A window was closed."""
        with self._lock:
            self._windows.pop(session, None)
