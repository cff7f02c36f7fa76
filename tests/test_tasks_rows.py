import json

import pytest

from tasks.base import BadRow
from tasks.rows import is_file, read_file

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "2+2?", "answer": "4"}]


def rows_of(path):
    return [row for _, row in read_file(str(path))]


def test_json_lines_come_with_their_line_numbers_and_blank_ones_do_not_count(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1]))
    assert list(read_file(str(path))) == [(f"{path}, line 1", ROWS[0]), (f"{path}, line 3", ROWS[1])]


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_its_first_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode())
    assert rows_of(path) == [ROWS[0]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"question": "cut o', "not JSON (Unterminated string starting at: line 1 column 14 (char 13)); write one object a line"),
        (b"[1, 2]", "not an object but list"),
        ("{'question': 'ß'}".encode("latin-1"), "not UTF-8 (invalid continuation byte at byte 14); save it as UTF-8"),
        (b"[" * 100_000, "not JSON (maximum recursion depth exceeded"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b"\n" + line + b"\n" + json.dumps(ROWS[1]).encode())
    first, bad, last = rows_of(path)
    assert (first, last) == (ROWS[0], ROWS[1])
    assert isinstance(bad, BadRow)
    assert bad.where == f"{path}, line 2"
    assert bad.reason.startswith(reason)


def test_a_list_of_objects_is_read_as_rows(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([*ROWS, 7]))
    assert rows_of(path)[:2] == ROWS
    assert rows_of(path)[2] == BadRow(where=f"{path}, row 3", reason="not an object but int")
    path.write_text("{}")
    with pytest.raises(ValueError, match="must hold a list of objects, got dict"):
        rows_of(path)


@pytest.mark.slow  # importing datasets takes 3 s
def test_tables_are_read_through_datasets(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(read_file(str(tmp_path / "a.parquet")))[1] == (f"{tmp_path / 'a.parquet'}, row 2", ROWS[1])
    (tmp_path / "a.csv").write_text("question,answer\n1+1?,2\n")
    assert rows_of(tmp_path / "a.csv") == [{"question": "1+1?", "answer": 2}]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match=r"option 'task.path': cannot read '.*b.parquet' as parquet \("):
        rows_of(tmp_path / "b.parquet")


def test_a_path_is_a_file_by_its_looks_or_because_it_is_there(tmp_path):
    assert is_file("train.jsonl")
    assert is_file("./data/train.txt")
    assert not is_file("openai/gsm8k")
    with pytest.raises(ValueError, match="option 'task.path': no file 'gone.jsonl'; give a .jsonl, .json, .csv, .parquet file"):
        rows_of("gone.jsonl")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="must end in .jsonl, .json, .csv, .parquet"):
        rows_of(tmp_path / "a.txt")


def test_a_name_that_is_too_long_is_no_file():
    assert not is_file("x" * 300)
    with pytest.raises(ValueError, match=r"^option 'task.path': no file '/x"):
        rows_of(f"/{'x' * 300}")
