"""The labelling page: people say which video of a pair is better, segment by segment, in a browser on this machine."""
