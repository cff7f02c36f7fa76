"""Programs that are started as `python -m launch.NAME`: main functions only."""
