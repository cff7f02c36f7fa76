"""The `r1` command; imports no torch."""
