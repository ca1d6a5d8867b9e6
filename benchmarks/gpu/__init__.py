"""Ten-minute proof on a GPU: what the tests cannot show on CPUs, each part in a process of its own."""
