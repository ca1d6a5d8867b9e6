"""Moving shapes with ground truth, and tiny pre-trained checkpoints of the real architectures."""
