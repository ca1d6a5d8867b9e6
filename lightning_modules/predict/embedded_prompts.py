"""Prompt embeddings of a run, made ahead, so that the text encoders need not stay beside the transformer."""

from __future__ import annotations

from itertools import dropwhile, islice
from typing import Any

from lightning.pytorch import Trainer

from datamodules.dense.inputs import Prompt
from lightning_modules.policies.video_flow import VideoFlow

#: Prompts that are embedded in one go: as many as fit into about a gigabyte.
AHEAD = 256


class EmbeddedPrompts:
    """Embeddings by text. A text that is asked for is embedded with those that follow it in the run.

    Each passes the encoders by itself, so that its embeddings do not depend on the others.

    Args:
        policy: whose text encoders; they are freed after every go.
    """

    def __init__(self, policy: VideoFlow) -> None:
        self.policy = policy
        #: Name and text of each prompt of the run, as far as they are known, and the texts without doubles.
        self.named: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self._embedded: dict[str, Prompt] = {}

    def expect(self, trainer: Trainer) -> None:
        """Take the texts of a run from its data module, in the order of its samples, if it knows them."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.named = data.prompts() if hasattr(data, "prompts") else []
        self.texts = list(dict.fromkeys(text for _, text in self.named))

    def of(self, text: str) -> Prompt:
        """The embeddings of a text, on the policy's device.

        Raises:
            ValueError: it is empty.
        """
        if text not in self._embedded:
            following = dropwhile(lambda other: other != text, self.texts)
            ahead = [other for other in islice(following, AHEAD) if other.strip()]
            # The text itself comes first: where it is empty, that is an error.
            self._embedded = {
                each: {name: stream.cpu() for name, stream in self.policy.encode_prompt([each])[0].items()}
                for each in dict.fromkeys([text, *ahead])
            }
            self.policy.release()
        return {name: stream.to(self.policy.device) for name, stream in self._embedded[text].items()}
