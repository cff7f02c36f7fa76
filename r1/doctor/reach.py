"""What one machine can reach beyond itself. Travels to the nodes with facts.py, and imports no more than that does."""

import contextlib
import os
import threading
import uuid
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from tasks.hub import DEFAULT_ENDPOINT, TIME_LIMIT_S, hub_address, is_offline, why_silent

DASHBOARD_LIMIT_S = 2.0
STORAGE_LIMIT_S = 20.0
"""As long as a run tries its storage on the driver's node (r1/storage.py)."""


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


def data_sets_here(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each name on the hub: is_cached, something of it; hub: why the hub does not give it."""
    why = why_hub_is_silent() if names else None
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or f"{home}/datasets").expanduser()
    cached = {_plain(folder.name) for folder in cache.glob("*") if os.path.isdir(folder)}
    return {name: {"is_cached": _plain(name.replace("/", "___")) in cached, "hub": why} for name in names}


def _plain(name: str) -> str:
    """datasets calls the folder of org/DataSet org___data_set."""
    return name.replace("_", "").lower()


def why_hub_is_silent() -> str | None:
    """In words that go on after "the hub"; None where it takes connections."""
    if is_offline():
        return "is not asked (offline by HF_HUB_OFFLINE)"
    return why_silent(*hub_address(os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT), TIME_LIMIT_S)


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def asks_for_token(address: str, port: int) -> bool | None:
    """Whether a Ray dashboard refuses whoever comes without a token; None where it does not answer like one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/api/jobs/"
    with contextlib.suppress(OSError, HTTPException, ValueError):
        try:
            # Past any proxy: it is asked what everybody who reaches it may do.
            build_opener(ProxyHandler({})).open(url, timeout=DASHBOARD_LIMIT_S).close()
            return False
        except HTTPError as error:
            return error.code in (401, 403)
    return None


def why_storage_fails(url: str, name: str) -> str | None:
    """Why what the driver has left at a URL cannot be read here, or nothing written beside it; None where both can be done.

    name: of that object, which is its content as well.
    """
    said: list[str | None] = []

    def read_write_remove() -> None:
        try:
            from fsspec.core import url_to_fs

            filesystem, root = url_to_fs(url)
            place = f"{root.rstrip('/')}/{name}"
            if filesystem.cat_file(place) != name.encode():
                said.append("it gives back other bytes than the driver sent")
                return
            own = f"{place}-{uuid.uuid4().hex[:12]}"  # other nodes write at the same time
            filesystem.pipe_file(own, b"r1")
            filesystem.rm_file(own)
            said.append(None)
        # A package that is missing; and every storage package has errors of its own: all mean that it did not work.
        except Exception as error:  # noqa: BLE001
            said.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    # In a thread that can be left behind: the packages try for minutes by themselves.
    thread = threading.Thread(target=read_write_remove, daemon=True)
    thread.start()
    thread.join(STORAGE_LIMIT_S)
    return said[0] if said else f"no answer within {STORAGE_LIMIT_S:g} s"
