"""VBench on a folder of videos."""
