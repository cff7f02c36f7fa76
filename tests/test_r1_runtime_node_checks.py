"""What is asked of nodes before a run, without a cluster; tests/test_launch_refusals.py asks two real ones."""

from r1.runtime.node_checks import left_token


def test_the_token_lies_in_the_nearest_folder_and_is_removed(tmp_path):
    with left_token(tmp_path / "not" / "yet") as token:
        assert token.parent == tmp_path
        assert token.read_text() == token.name
    assert list(tmp_path.iterdir()) == []


def test_where_no_token_can_be_left_there_is_none(tmp_path):
    with left_token(tmp_path / ("x" * 300)) as token:
        assert token is None
