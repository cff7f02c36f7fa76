"""The determinant of a small matrix as an expression of its cells."""

from rewards.math_grading.tree import Call, Group, Node


def determinant(rows: tuple[Node, ...]) -> Node | None:
    """ad - bc, and the rule of Sarrus by minors; None for more than 3 rows."""
    cells = [row.items for row in rows if isinstance(row, Group)]
    if len(cells) > 3 or any(len(row) != len(cells) for row in cells):
        return None
    if len(cells) == 1:
        return cells[0][0]
    total: Node | None = None
    for column, cell in enumerate(cells[0]):
        minor = determinant(tuple(Group("row", row[:column] + row[column + 1 :]) for row in cells[1:]))
        assert minor is not None
        term = Call("*", (cell, minor))
        total = term if total is None else Call("-" if column % 2 else "+", (total, term))
    return total
