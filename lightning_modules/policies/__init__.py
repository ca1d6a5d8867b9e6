"""One adapter per model family over transformers, diffusers and peft; no training code."""
