"""A file of prompts, one a line or a JSON record a line."""

from __future__ import annotations

from pathlib import Path

from datamodules.user_files import user_file


def read_prompts(file: Path) -> list[str]:
    """The prompts of a text file, white space around them taken off.

    Raises:
        ValueError: no such file, not UTF-8, no prompt in it, or prompts that come twice (all of them).
    """
    try:
        # Not `splitlines`, which also splits at characters that may be within a prompt (U+2028).
        lines = [line.strip() for line in user_file(file).read_text(encoding="utf-8-sig").split("\n")]
    except FileNotFoundError as error:
        raise ValueError(f"{file}: no such file; give a text file with one prompt a line") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not UTF-8 text ({error})") from error
    first: dict[str, int] = {}
    faults = []
    for number, prompt in enumerate(lines, 1):
        if prompt and first.setdefault(prompt, number) != number:
            faults.append(f"  line {number} repeats line {first[prompt]}: {prompt[:60]}")
    if faults:
        message = "prompts come twice; leave one out, and raise num_samples for more videos of each"
        raise ValueError("\n".join([f"{file}: {message}", *faults]))
    if not first:
        raise ValueError(f"{file}: holds no prompt; write one a line")
    return list(first)
