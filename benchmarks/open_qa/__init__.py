"""MSVD-QA, MSRVTT-QA, TGIF-QA FrameQA and ActivityNet-QA."""
