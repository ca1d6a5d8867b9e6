"""Memory of a LoRA step of VistaDPO, by video-language family: `python -m benchmarks.speed.families`.

Computed, not measured: bfloat16 weights, float32 adapters with AdamW, what activation checkpointing keeps, and the
largest block while it is computed again. The batch is one sample: six views, eight answers.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Views of a sample, and the rows that they take where every answer has one of its own.
VIEWS, ROWS = 6, 8
#: Tokens of a view besides the video's: template and question, and the answers behind it.
TEXT, ANSWER = 60, 40
RANK = 16
GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Decoder:
    """The sizes of a language model, and what comes before it.

    Attributes:
        width: of hidden states.
        inner: of the feed-forward part.
        layers: blocks.
        heads: query heads.
        key_heads: key and value heads.
        head_width: of one head.
        vocabulary: tokens.
        vision: parameters of towers and projector, and of what else comes before the blocks.
        video_tokens: of 8 frames of 640 x 360 (PLLaVA: of any video).
        rows: every answer has a row of its own.
        query_parts: outputs of the query projection for each of the queries; 2 where it makes a gate too.
        other: inputs and outputs of the linears that a block has in the place of full attention; () = none has.
        attending: of how many blocks the last one attends fully.
        shared: last blocks, which take keys and values from earlier ones.
        tied: the output head is the embedding.
    """

    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    vision: float
    video_tokens: int
    rows: bool = False
    query_parts: int = 1
    other: tuple[tuple[int, int], ...] = ()
    attending: int = 1
    shared: int = 0
    tied: bool = False

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Inputs and outputs of all linears of the decoder's blocks."""
        queries, keys = self.heads * self.head_width, self.key_heads * self.head_width
        width, inner = self.width, self.inner
        attention = ((width, self.query_parts * queries), (width, keys), (width, keys), (queries, width))
        every: list[tuple[int, int]] = []
        for block in range(1, self.layers + 1):
            mixing = self.other if block % self.attending else attention
            # Queries and output alone, where keys and values are an earlier block's.
            every += [mixing[0], mixing[-1]] if block > self.layers - self.shared else mixing
            every += [(width, inner), (width, inner), (inner, width)]
        return every

    @property
    def blocks(self) -> int:
        """Parameters of the decoder's blocks."""
        return sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def parameters(self) -> float:
        """All of the model's."""
        return self.blocks + (1 if self.tied else 2) * self.vocabulary * self.width + self.vision

    @property
    def adapter(self) -> int:
        """Parameters of an adapter of rank `RANK` on every linear."""
        return RANK * sum(inputs + outputs for inputs, outputs in self.linears)

    @property
    def tokens(self) -> int:
        """Of all rows of a sample."""
        if self.rows:
            return ROWS * (self.video_tokens + TEXT + ANSWER)
        return VIEWS * (self.video_tokens + TEXT) + ROWS * ANSWER

    def gib(self) -> dict[str, float]:
        """Part -> GiB."""
        # Inside a block: normalised inputs, queries, keys, values, attention's output, three tensors of the
        # feed-forward part, and the gradient of each.
        inside = 2 * (4 * self.width + 2 * self.heads * self.head_width + 3 * self.inner)
        return {
            "weights": 2 * self.parameters / GIB,
            "adapter": 16 * self.adapter / GIB,
            "kept": 2 * self.tokens * self.width * self.layers / GIB,
            "block": 2 * self.tokens * inside / GIB,
        }


_LLAMA = (4096, 11008, 32, 32, 32, 128, 32064)
_QWEN2 = (3584, 18944, 28, 28, 4, 128, 152064)
#: Checkpoint -> its sizes, from its published configuration; of Qwen3.5 and GLM-4.6V-Flash transformers' defaults.
FAMILIES: dict[str, Decoder] = {
    "LanguageBind/Video-LLaVA-7B-hf": Decoder(*_LLAMA, vision=0.63e9, video_tokens=8 * 257),
    "ermu2001/pllava-7b": Decoder(*_LLAMA, vision=0.33e9, video_tokens=16 * 12 * 12),
    "llava-hf/LLaVA-NeXT-Video-7B-hf": Decoder(*_LLAMA, vision=0.33e9, video_tokens=8 * 144),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": Decoder(*_QWEN2, vision=0.43e9, video_tokens=8 * 196 + 1),
    "OpenGVLab/InternVL3-8B-hf": Decoder(*_QWEN2, vision=0.33e9, video_tokens=8 * 256),
    "Qwen/Qwen2.5-VL-7B-Instruct": Decoder(*_QWEN2, vision=0.68e9, video_tokens=4 * 13 * 23),
    "Qwen/Qwen3-VL-8B-Instruct": Decoder(4096, 12288, 36, 32, 8, 128, 151936, vision=0.58e9, video_tokens=4 * 11 * 20),
    "Qwen/Qwen3.5-9B": Decoder(
        4096, 12288, 32, 16, 4, 256, 248320, vision=0.46e9, video_tokens=4 * 11 * 20, rows=True, query_parts=2,
        other=((4096, 8192), (4096, 4096), (4096, 32), (4096, 32), (4096, 4096)), attending=4,
    ),
    "zai-org/GLM-4.6V-Flash": Decoder(
        4096, 13696, 40, 32, 2, 128, 151552, vision=0.88e9, video_tokens=4 * 13 * 23, rows=True
    ),
    # Before frames that resemble the one before lose tokens.
    "lkhl/VideoLLaMA3-2B-Image-HF": Decoder(
        1536, 8960, 28, 12, 2, 128, 151936, vision=0.43e9, video_tokens=8 * 13 * 23, rows=True, tied=True
    ),
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": Decoder(
        2048, 8192, 24, 32, 32, 64, 49280, vision=0.43e9, video_tokens=8 * 81, rows=True
    ),
    # Towers for pictures and for sound, and an embedding of 256 numbers for each block with its projections.
    "google/gemma-4-E4B-it": Decoder(
        2560, 10240, 42, 8, 2, 512, 262144, rows=True, tied=True, video_tokens=8 * 70, attending=6, shared=18,
        vision=0.17e9 + 0.3e9 + 42 * 256 * (262144 + 2560) + 42 * 2 * 2560 * 256,
        other=((2560, 2048), (2560, 512), (2560, 512), (2048, 2560)),
    ),
}  # fmt: skip


def table() -> str:
    """The table of the documentation, in Markdown."""
    lines = [
        "| checkpoint | parameters | video tokens | weights | LoRA step | with nf4 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, decoder in FAMILIES.items():
        parts = decoder.gib()
        total = sum(parts.values())
        # 4.13 bits a weight with double quantisation; towers, embeddings and head stay in 16.
        blocks = 2 * decoder.blocks / GIB
        lines.append(
            f"| `{name}` | {decoder.parameters / 1e9:.1f} B | {decoder.video_tokens} | {parts['weights']:.1f} GiB | "
            f"{total:.0f} GiB | {total - blocks * (1 - 4.13 / 16):.0f} GiB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
