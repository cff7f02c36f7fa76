"""`r1 report` and `r1 serve`: a run as one page of figures and samples."""
