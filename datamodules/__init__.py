"""What flows: shards, the plan of their order, samples and batches."""
