"""VistaDPO on its toy world: the methods of the study, its conditions, measures, rows and page."""
