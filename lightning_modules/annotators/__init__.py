"""Who proposes annotation: boxes, event spans and wrong answers."""
