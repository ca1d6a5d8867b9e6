"""The command line: parser, defaults, messages, record of a run."""
