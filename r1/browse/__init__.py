"""`r1 traces browse`: a terminal app that goes from a run to its steps, groups and completions."""
