"""Bytes in words."""

GIB = 2**30


def size(num_bytes: float) -> str:
    """
    >>> size(15.2 * GIB), size(57_344), size(3 * 2**20)
    ('15.2 GiB', '56.0 KiB', '3.0 MiB')
    """
    for unit, bytes_of_unit in (("GiB", GIB), ("MiB", 2**20)):
        if num_bytes >= bytes_of_unit:
            return f"{num_bytes / bytes_of_unit:.1f} {unit}"
    return f"{num_bytes / 2**10:.1f} KiB"
