"""Whether the Hugging Face hub answers: asked once, within seconds, before a library asks in vain for half a minute."""

import os
import socket
import sys
import threading
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

DEFAULT_ENDPOINT = "https://huggingface.co"
TIME_LIMIT_S = 5.0
"""For the name and for the connection, each."""


def use_hub() -> str | None:
    """Call it before whatever may ask the hub. None when the hub answers, else why not; what is cached is all there is then.

    Without a network the hub's own client tries six times, 24 s in all, for each file that it looks for, cached or not
    (huggingface_hub 2.4: a missing data set took 42 s to be said). So it is told to be offline, as HF_HUB_OFFLINE=1 does, and
    so are the processes that this one starts.
    """
    if is_offline():
        return None  # the user's own choice; the library says so itself
    problem = why_unreachable(os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
    if problem:
        _go_offline()
    return problem


def is_offline() -> bool:
    """Whether the user has chosen to be, by what the hub's own client takes for yes (huggingface_hub.constants)."""
    chosen = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return chosen.upper() in ("1", "ON", "YES", "TRUE")


@cache
def why_unreachable(url: str) -> str | None:
    """Why nobody listens there; None when somebody does. Remembered."""
    host, port = hub_address(url)
    why = why_silent(host, port, TIME_LIMIT_S)
    return why and f"{host}:{port} {why}"


def hub_address(url: str) -> tuple[str, int]:
    """Host and port of a URL, or of the proxy that stands before it."""
    place = urlsplit(url)
    proxy = None if proxy_bypass(place.hostname or "") else getproxies().get(place.scheme)
    if proxy:
        place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return place.hostname or "", place.port or (80 if place.scheme == "http" else 443)


def why_silent(host: str, port: int, time_limit_s: float) -> str | None:
    """Why nobody takes a connection there, in words; None when somebody does."""
    answer: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=time_limit_s).close()
            answer.append(None)
        except TimeoutError:
            answer.append(f"did not answer within {time_limit_s:g} s")
        except (OSError, ValueError) as error:  # refused, no such name, no network; a name or port that cannot be one
            answer.append(f"cannot be reached ({getattr(error, 'strerror', None) or error})")

    # A name server that is silent holds its caller up for as long as it likes: in a thread that can be left behind.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * time_limit_s)
    return answer[0] if answer else f"did not answer within {2 * time_limit_s:g} s"


def _go_offline() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Both packages read the variable when they are imported.
    for name in ("huggingface_hub.constants", "datasets.config"):
        module = sys.modules.get(name)
        if module is not None:
            module.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
