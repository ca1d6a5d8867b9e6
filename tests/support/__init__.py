"""What several tests use: small checkpoints, shards, stand-ins, runs of the command."""
