"""Keys, tokens and passwords taken out of a text that others will read."""

from __future__ import annotations

import os
import re

#: Environment variables whose values are secret, by the end of their names.
_SECRET_VARIABLE = re.compile(r"(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD)S?$", re.IGNORECASE)
#: Shorter values of such variables are words ("none", "EMPTY") that a text may hold for another reason.
_SHORTEST = 8
# A bare "token" is a loss term, and no secret.
_NAME = (
    r"(?:(?:api|access|secret|private)[_-]?key|secret|passw(?:or)?d"
    r"|(?:auth|access|session|user|bearer|hf|hub)[_-]?token)"
)
_PATTERNS = (
    # Tokens by their form: the hub's, OpenAI's, wandb's, GitHub's, AWS's.
    re.compile(r"()\b(?:(?:hf_|api_org_|sk-|wandb_v1_|ghp_|github_pat_)[A-Za-z0-9_-]{8,}|AKIA[0-9A-Z]{16}\b)"),
    # Flags ("--logger.api_key VALUE") and settings ("api_key: VALUE", and as a row of a table) by their names.
    re.compile(rf"(--[\w.-]*{_NAME}[= ])[^\s`|]+", re.IGNORECASE),
    re.compile(rf"({_NAME}[\"']?\s*[=:|]\s*[\"']?)[^\s`|\"',}}]+", re.IGNORECASE),
    # In an address: user and password before the host, a signed query after the path.
    re.compile(r"(://)[^\s/@`'\"|]+(?=@)"),
    re.compile(r"(://[^\s`'\"|?]+\?)[^\s`'\"|]+"),
)


def without_secrets(text: str) -> str:
    """A text with every secret that can be recognised replaced by ``***``.

    These are the values of environment variables that are named as a token, key, secret or password, tokens of a known
    form, values after the names of such settings, and users, passwords and queries in addresses.
    """
    values = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    for pattern in _PATTERNS:
        text = pattern.sub(r"\1***", text)
    return text
