"""Speed and memory, measured in turn against the released schedules."""
