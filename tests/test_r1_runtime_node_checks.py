"""What is asked of nodes before a run, without a cluster; tests/test_launch_refusals.py asks two real ones."""

import pytest
from doctor_facts import machine
from tiny import tiny_config

from r1.errors import UserError
from r1.runtime import node_checks
from r1.runtime.node_checks import left_object, left_token
from r1.runtime.node_probe import Answers
from r1.storage import open_storage


def test_the_token_lies_in_the_nearest_folder_and_is_removed(tmp_path):
    with left_token(tmp_path / "not" / "yet") as token:
        assert token.parent == tmp_path
        assert token.read_text() == token.name
    assert list(tmp_path.iterdir()) == []


def test_where_no_token_can_be_left_there_is_none(tmp_path):
    with left_token(tmp_path / ("x" * 300)) as token:
        assert token is None


def test_the_object_lies_at_the_url_and_is_removed(tmp_path):
    with left_object(open_storage(f"file://{tmp_path}/run")) as (url, name):
        assert url == f"file://{tmp_path}/run"
        assert (tmp_path / "run" / name).read_text() == name
    assert list((tmp_path / "run").iterdir()) == []
    for storage in (None, open_storage("file:///proc/none/run")):
        with left_object(storage) as left:
            assert left is None


def test_a_run_is_refused_where_a_node_cannot_use_its_storage(tmp_path, monkeypatch):
    def ask_nodes(request):
        url, name = request["storage"]
        assert (tmp_path / "run" / name).is_file()
        return Answers(facts={"a": machine(), "b": machine(storage={"url": url, "why": "ImportError: Install s3fs"})})

    monkeypatch.setattr(node_checks.ray, "nodes", lambda: [{"Alive": True}, {"Alive": True}])
    monkeypatch.setattr(node_checks, "ask_nodes", ask_nodes)
    with pytest.raises(UserError, match=r"^node b, run_dir: file:///.* cannot be used here \(ImportError: Install s3fs\)"):
        node_checks.check_nodes(tiny_config(), None, open_storage(f"file://{tmp_path}/run"))
