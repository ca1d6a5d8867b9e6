"""What benchmarks ask, one file a benchmark."""
