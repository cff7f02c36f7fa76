"""A GRPO trainer that reproduces R1-Zero."""
