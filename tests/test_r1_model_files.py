"""Model repositories are not trusted: their code is not run, their pickles are not read."""

import ast
import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
from tiny import MODEL

from r1.errors import UserError
from r1.model_files import open_model
from r1.policy_model import load_model

ROOT = Path(__file__).resolve().parents[1]


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(MODEL, tmp_path / "model")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("part", ["AutoConfig", "AutoTokenizer"])
def test_code_of_a_model_repository_is_refused_and_not_run(model, part):
    (model / "own.py").write_text(f"open({str(model / 'ran')!r}, 'w')\n")
    if part == "AutoConfig":
        change(model / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    else:
        change(model / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]})
    with pytest.raises(UserError, match=r"^option 'model.path': .* code of its own, and r1 runs no code of model repositories .*; choose"):
        open_model(str(model))
    assert not (model / "ran").exists()


def test_pickled_weights_are_refused_and_not_read(model, tmp_path):
    for weights in model.glob("*.safetensors*"):
        weights.unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(UserError, match=r"^option 'model.path': .* no weights \(\*.safetensors\) but pytorch_model.bin, and a pickle may run code .*; save"):
        open_model(str(model))
    with pytest.raises(UserError, match=r"^option 'model.path': cannot load"):
        load_model(str(model))
    assert not (tmp_path / "ran").exists()


def test_every_way_to_load_a_model_says_that_it_trusts_none():
    # By default transformers asks at the terminal, and vLLM takes pickles.
    wanted = {"LLM": {"trust_remote_code": False, "load_format": "safetensors"}}
    for name in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"):
        wanted[f"{name}.from_pretrained"] = wanted[f"{name}.from_config"] = {"trust_remote_code": False}
    wanted["AutoModelForCausalLM.from_pretrained"] = {"trust_remote_code": False, "use_safetensors": True}
    seen = set()
    for path in ROOT.glob("r1/**/*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            called = ast.unparse(call.func)
            if called in wanted:
                seen.add(called)
                given = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
                assert given.items() >= wanted[called].items(), f"{path.relative_to(ROOT)}, line {call.lineno}"
            else:  # of another class, whose options nobody has looked up here
                assert not re.fullmatch(r"Auto\w+\.from_\w+", called), f"{path.relative_to(ROOT)}, line {call.lineno}"
    assert {"LLM", "AutoModelForCausalLM.from_pretrained"} <= seen


def test_a_script_beside_a_data_set_is_not_run(tmp_path):
    import datasets

    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(RuntimeError, match="scripts are no longer supported"):
        datasets.load_dataset(str(folder))
    assert not (tmp_path / "ran").exists()
