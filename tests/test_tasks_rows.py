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


def test_every_value_of_a_csv_file_is_text_as_it_stands(tmp_path):
    path = tmp_path / "a.csv"
    # Excel's mark and line ends; a whole number that no float holds beside an empty cell; answers that pandas takes for missing.
    path.write_bytes(b'\xef\xbb\xbfquestion, answer\r\n"1+1, or ""two""?",9007199254740993\r\n\r\nA?,\r\nB?,NA\r\nC?,None\r\n,\r\n')
    assert list(read_file(str(path))) == [
        (f"{path}, line 2", {"question": '1+1, or "two"?', "answer": "9007199254740993"}),
        (f"{path}, line 4", {"question": "A?", "answer": ""}),
        (f"{path}, line 5", {"question": "B?", "answer": "NA"}),
        (f"{path}, line 6", {"question": "C?", "answer": "None"}),
    ]


def test_a_csv_row_with_another_number_of_values_is_named_by_the_line_where_it_begins(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('question,answer\n"Two\nlines?",2\nA farmer, who has 3 cows?,3\nalone\n"he said "no"",4\nD?,5\n')
    rows = list(read_file(str(path)))
    assert rows[0] == (f"{path}, line 2", {"question": "Two\nlines?", "answer": "2"})
    bad = [row for _, row in rows[1:4]]
    assert [row.where for row in bad] == [f"{path}, line {number}" for number in (4, 5, 6)]
    assert bad[0].reason == "3 values for the 2 columns question, answer; put a value with a comma, or its line breaks, in quotes"
    assert bad[1].reason.startswith("1 values for the 2 columns")
    assert bad[2].reason == """not CSV (',' expected after '"'); write "" for a quote within quotes"""
    assert rows[4:] == [(f"{path}, line 7", {"question": "D?", "answer": "5"})]


def test_a_csv_files_quote_that_is_never_closed_is_a_bad_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('question,answer\nA?,1\n"B?,2\nC?,3\n')
    (_, first), (_, bad) = read_file(str(path))
    assert first == {"question": "A?", "answer": "1"}
    assert (bad.where, bad.reason[:34]) == (f"{path}, line 3", "not CSV (unexpected end of data); ")
    # No more than csv.field_size_limit() is ever held of it, and the lines behind that are rows again.
    path.write_text('question,answer\n"A?,1\n' + f"{'x' * 99},2\n" * 2000)
    (_, bad), *rows = read_file(str(path))
    assert bad.reason.startswith("not CSV (field larger than field limit (131072))")
    assert len(rows) == 2000 - 131072 // 102
    assert all(row["answer"] == "2" for _, row in rows)


def test_csv_that_is_not_utf_8_or_names_a_column_twice_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer\nA?,1\nGröße?,2\n".encode("latin-1"))
    (_, first), (_, bad) = read_file(str(path))
    assert first == {"question": "A?", "answer": "1"}
    assert (bad.where, bad.reason) == (f"{path}, line 3", "not UTF-8; save it as UTF-8")
    path.write_bytes("question,answer\nA?,1\n".encode("utf-16"))  # Excel's "Unicode text"
    with pytest.raises(ValueError, match="the first line is not text in UTF-8; save it as CSV UTF-8"):
        rows_of(path)
    path.write_text("question,answer,answer\nA?,1,2\n")
    with pytest.raises(ValueError, match="has two columns named 'answer'; rename one of them"):
        rows_of(path)
    path.write_text('"question"x,answer\nA?,1\n')
    with pytest.raises(ValueError, match=r"^option 'task.path': .*a.csv, line 1: not CSV \("):
        rows_of(path)
    path.write_text("")
    assert rows_of(path) == []


@pytest.mark.slow  # importing datasets takes 3 s
def test_parquet_is_read_through_datasets(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(read_file(str(tmp_path / "a.parquet")))[1] == (f"{tmp_path / 'a.parquet'}, row 2", ROWS[1])
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
