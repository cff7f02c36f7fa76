"""The parts of `rewards.math_answer`: extraction -> normalize -> lexer -> parser -> compare (evaluate), then sympy."""
