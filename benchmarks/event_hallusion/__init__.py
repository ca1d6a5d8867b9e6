"""EventHallusion: questions about events that did not happen, and descriptions that a judge reads."""
