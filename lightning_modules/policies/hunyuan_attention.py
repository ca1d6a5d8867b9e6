"""The attention of HunyuanVideo-1.5 without a mask of every pair of tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class JointAttention:
    """Attention processor of video and text together, in which padding of the text is not seen.

    That of diffusers makes a mask of all pairs of tokens in every block, 50,000 squared for five seconds at 480p, and
    lets a token of padding see nothing either. But what padding sees is of no account, since nothing sees it: here one
    row of the mask serves all tokens, and the velocity is the same.
    """

    # Set by diffusers, as those of its own processors.
    _attention_backend: Any = None
    _parallel_config: Any = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Attend, with the names that a block of the transformer calls its arguments.

        Args:
            attn: the module with the projections.
            hidden_states: (B, V, D), of the video.
            encoder_hidden_states: (B, T, D), of the text.
            attention_mask: (B, T), 0 at padding.
            image_rotary_emb: cosines and sines of the video's positions, (V, D / heads) each.

        Returns:
            What becomes of video and text, in the same shapes.
        """
        from diffusers.models.attention_dispatch import dispatch_attention_fn
        from diffusers.models.embeddings import apply_rotary_emb

        def split(tokens: Tensor) -> Tensor:
            return tokens.view(*tokens.shape[:2], attn.heads, -1)

        video, text = hidden_states, encoder_hidden_states
        query, key = (
            apply_rotary_emb(norm(split(project(video))), image_rotary_emb, sequence_dim=1)
            for norm, project in ((attn.norm_q, attn.to_q), (attn.norm_k, attn.to_k))
        )
        text_query = attn.norm_added_q(split(attn.add_q_proj(text)))
        text_key = attn.norm_added_k(split(attn.add_k_proj(text)))
        seen = torch.nn.functional.pad(attention_mask.bool(), (video.shape[1], 0), value=True)
        attended = dispatch_attention_fn(
            torch.cat([query, text_query], dim=1),
            torch.cat([key, text_key], dim=1),
            torch.cat([split(attn.to_v(video)), split(attn.add_v_proj(text))], dim=1),
            attn_mask=seen[:, None, None],
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        merged = attended.flatten(2).to(query.dtype).split([video.shape[1], text.shape[1]], dim=1)
        linear, dropout = attn.to_out
        return dropout(linear(merged[0])), attn.to_add_out(merged[1])
