"""Token ids of answers: what follows the end of a prompt, closed by the token that ends a turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from datamodules.vista.texts import is_blank
from lightning_modules.policies.plain_text import PlainText


@dataclass(frozen=True)
class AnswerIds:
    """Tokenises answers behind the ending of a prompt, as in running text.

    Attributes:
        plain: tokenises texts as plain text.
        lead_in: the prompt's ending, behind which the answers' ids do not depend on what came before.
        space: what a template puts between the prompt and an answer.
        end_id: the token that ends an answer.
        refused: placeholders of the video, which no answer may hold.
        template: what to call the ending's source in an error.
    """

    plain: PlainText
    lead_in: str
    space: str
    end_id: int
    refused: tuple[str, ...]
    template: str = "prompt_template"

    def __call__(self, answer: str, where: str) -> list[int]:
        """The answer's ids and the end of its turn.

        Args:
            answer: the answer; white space around it does not count.
            where: what to call it in an error.

        Raises:
            ValueError: nothing is left of the answer, or it holds a video token, or it merges with the prompt's end.
        """
        text = answer.strip()
        for token in self.refused:
            if token in text:
                raise ValueError(f"{where}: the answer {answer!r} holds the video token {token!r}; take it out")
        # Behind the prompt's ending and not alone: a byte-pair tokenizer gives the space to the answer's first word.
        joint = self.plain.ids(self.lead_in + self.space, text, "", where)
        cut = len(self._lead_in_ids)
        # One token across the border would belong to the prompt and to the answer.
        if joint[:cut] != self._lead_in_ids:
            raise ValueError(
                f"{where}: the answer {answer!r} merges with the end of the prompt {self.lead_in!r} into one token; "
                f"end {self.template} with a token of its own, for example a colon"
            )
        if is_blank(text) or not joint[cut:]:
            raise ValueError(
                f"{where}: the answer {answer!r} tokenises to nothing; give a text, or leave the sample out"
            )
        return [*joint[cut:], self.end_id]

    @cached_property
    def _lead_in_ids(self) -> list[int]:
        ids: list[int] = self.plain.tokenizer(self.lead_in, add_special_tokens=False)["input_ids"]
        return ids
