"""What this machine can reach, where nobody is: no test here needs a network."""

import pytest

from r1.doctor import reach

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)


def test_a_hub_name_is_looked_for_in_the_cache(tmp_path):
    missing = reach.model_here("org/name")
    assert (missing["kind"], missing["found"], missing["hub"]) == ("hub", False, "cannot be reached (Connection refused)")
    snapshot = tmp_path / "hub/models--org--name/snapshots/1f"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"123")
    found = reach.model_here("org/name")
    assert (found["files"], found["hub"]) == ({"model.safetensors": 3}, None)


@pytest.mark.parametrize(
    ("value", "says"), [("1", "is not asked (offline by HF_HUB_OFFLINE)"), ("0", "cannot be reached (Connection refused)")]
)
def test_who_chose_to_be_offline_is_told(value, says, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert reach.model_here("org/name")["hub"] == says
