"""`r1 doctor`: facts.py gathers what a machine says of itself, checks.py and the like judge it, diagnosis.py puts it together."""
