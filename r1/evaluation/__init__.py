"""Evaluation on held-out problems, several samples each: `python -m launch.evaluate`, docs/evaluation.md. No torch, no ray."""
