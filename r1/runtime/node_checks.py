"""What is asked of a cluster's nodes before a run starts its workers there: the checks of `r1 doctor` that decide it."""

import contextlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ray

from r1.config import RunConfig
from r1.doctor.checks import check_model as check_model_of_node
from r1.doctor.checks import check_origins, check_reward_files, check_storage
from r1.doctor.cluster_checks import check_answers, check_run_dir, check_same_code, check_same_model, check_same_versions
from r1.doctor.needs import request_for
from r1.doctor.result import Result
from r1.errors import UserError
from r1.files import nearest_existing
from r1.runtime.node_probe import Answers, ask_nodes
from r1.storage import Storage, StorageError


def check_nodes(config: RunConfig, run_dir: Path | None, storage: Storage | None = None) -> None:
    """Raise `UserError` where a node cannot do its part: with one line, of what is wrong first. Of one node nothing is asked.

    run_dir: the folder that all nodes have to share; None where the run is at a URL. storage: what is there.
    """
    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return
    with left_token(run_dir) as token, left_object(storage) as left:
        answers = ask_nodes({**request_for(config, run_dir), "token": token and str(token), "storage": left})
        wrong = [result for result in decisive(answers, token) if result.verdict == "red"]
    if wrong:
        first, who = wrong[0], f"node {wrong[0].node}, " if wrong[0].node else ""
        more = f" ({len(wrong) - 1} more: r1 doctor CONFIG shows all)" if wrong[1:] else ""
        raise UserError(f"{who}{first.check}: {first.line}{more}")


def decisive(answers: Answers, token: Path | None) -> Iterator[Result]:
    """The results without which no run across these nodes can work."""
    yield check_answers(answers.silent)
    nodes = answers.facts
    for node, facts in nodes.items():
        for check in (check_origins, check_model_of_node, check_reward_files, check_storage):
            result = check(facts, None)
            if result:
                yield replace(result, node=node)
    if len(nodes) > 1:
        yield check_same_versions(nodes)
        yield check_same_code(nodes)
        same_model = check_same_model(nodes)
        if same_model:
            yield same_model
    if token:
        yield check_run_dir(nodes, token.name, "the driver")


@contextmanager
def left_token(folder: Path | None) -> Iterator[Path | None]:
    """A file in the folder, or in the nearest one above it that exists, that holds its own name.

    None for a storage by URL, and where nothing can be written: the check of the disk says so.
    """
    if folder is None:
        yield None
        return
    try:
        token = nearest_existing(folder) / f".r1-doctor-{uuid.uuid4().hex}"
        token.write_text(token.name, encoding="utf-8")
    except (OSError, UserError):
        yield None
        return
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)


@contextmanager
def left_object(storage: Storage | None) -> Iterator[tuple[str, str] | None]:
    """An object at the URL that holds its own name, as (URL, name); None where the driver itself cannot write there."""
    name = f".r1-probe-{uuid.uuid4().hex[:12]}"  # no listing of a run has it
    try:
        if storage is not None:
            storage.probe()  # within seconds; `write` by itself waits a minute
            storage.write(name, name.encode())
    except StorageError:
        storage = None
    if storage is None:
        yield None
        return
    try:
        yield storage.url, name
    finally:
        with contextlib.suppress(StorageError):  # a run that can go on shall not end for it
            storage.remove([name])
