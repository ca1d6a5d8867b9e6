"""The modules of `predict`: samplers, segment judge, encoder."""
