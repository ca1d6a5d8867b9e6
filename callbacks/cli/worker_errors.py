"""The message of an error from a data loader's worker, without the worker's traceback."""

from __future__ import annotations

from datamodules.shards.byte_reader import BadSampleError

#: How torch begins the message of an error that came from a worker; the worker's traceback follows.
_WORKER = ("Caught ", " in DataLoader worker process ")
_TRACEBACK = "Traceback (most recent call last):"
_REMEDIES = (
    "pass over such samples with --data.on_bad_sample skip, or make the shards again: `vidpref prepare` with "
    "--skip-bad leaves bad rows out and lists them"
)


def worker_message(error: Exception) -> str:
    """An error's message: of one that came from a worker its last line, of a bad sample the remedies too."""
    message = str(error).strip()
    first = message.partition("\n")[0]
    from_worker = first.startswith(_WORKER[0]) and _WORKER[1] in first and _TRACEBACK in message
    if from_worker:
        lines = message.rpartition(_TRACEBACK)[2].strip("\n").splitlines()
        # Frames are indented; the first line that is not is "package.Class: message".
        start = next((index for index, line in enumerate(lines) if line[:1].strip()), 0)
        message = "\n".join(lines[start:]).partition(": ")[2] or "\n".join(lines[start:])
    # Whatever a loader raises for a sample has a cause; it is lost on the way from a worker.
    bad = isinstance(error, BadSampleError) and (from_worker or error.__cause__ is not None)
    return f"{message}; {_REMEDIES}" if bad else message
