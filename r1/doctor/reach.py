"""What one machine can reach beyond itself. Travels to the nodes with facts.py, and imports no more than that does."""

import os
from pathlib import Path
from typing import Any

from tasks.hub import DEFAULT_ENDPOINT, TIME_LIMIT_S, hub_address, is_offline, why_silent


def model_here(path: str) -> dict[str, Any]:
    """What there is of a model: a folder's files, or what the hub's cache has of a name; hub: why it does not give the rest."""
    folder, kind = Path(path), "folder"
    # os.path: Path.is_dir() raises for a folder that may not be looked into.
    if not os.path.isdir(path) and path.count("/") <= 1 and not path.startswith((".", "/", "~")):
        kind = "hub"
        folder = next(_hub_cache().glob(f"models--{path.replace('/', '--')}/snapshots/*"), folder)
    weights = sorted(folder.glob("*.safetensors")) if os.path.isdir(folder) else []
    return {
        "hub": why_hub_is_silent() if kind == "hub" and not weights else None,
        "kind": kind,
        "found": os.path.isdir(folder),
        "has_config": os.path.isfile(folder / "config.json"),
        "files": {file.name: file.stat().st_size for file in weights},
    }


def why_hub_is_silent() -> str | None:
    """In words that go on after "the hub"; None where it takes connections."""
    if is_offline():
        return "is not asked (offline by HF_HUB_OFFLINE)"
    return why_silent(*hub_address(os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT), TIME_LIMIT_S)


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
