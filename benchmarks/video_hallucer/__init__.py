"""VideoHallucer: every question with its hallucinated counterpart."""
