"""Speed and memory, measured in turn against the released schedule and against TRL."""
