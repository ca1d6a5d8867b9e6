"""What a training step needs of a GPU, found out under fake tensors: without weights and without a GPU."""
