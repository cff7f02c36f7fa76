"""One rollout worker: an engine in a process of its own, driven in slices so that it can take new groups and new weights."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, cast

import ray
from ray.exceptions import OwnerDiedError, RayError

from r1.config import RunConfig
from r1.errors import PublisherLost, RunError
from r1.rollout.engine import DeviceReceiver, EngineOptions, SleepingPart, check_group, load_engine_class
from r1.runtime.cluster import Resources
from r1.runtime.whereabouts import Whereabouts, whereabouts
from r1.types import FinishedGroup, GroupRequest, WeightManifest
from r1.weight_buckets import WeightCopy


class RolloutWorker:
    """A plain class; `ray.remote` wraps it where it is spawned."""

    def __init__(self, engine: str, options: EngineOptions) -> None:
        self._engine = load_engine_class(engine)(options)
        self._copy: WeightCopy | None = None

    def ready(self) -> Whereabouts:
        """Answers once the engine is up."""
        return whereabouts(self._engine.devices)

    def advance(
        self, requests: Sequence[GroupRequest], slice_s: float, cancelled: Collection[int] = ()
    ) -> list[FinishedGroup]:
        """Drop groups, begin others, and go on until some group is finished, all are, or `slice_s` is over."""
        if cancelled:
            self._engine.abort(cancelled)
        for request in requests:
            self._engine.add(request)
        end = time.monotonic() + slice_s
        while self._engine.num_unfinished:
            finished = self._engine.step()
            if finished:
                for one in finished:
                    check_group(one.group.prompt, one.group.completions, self._engine.vocab_size)
                return finished
            if time.monotonic() > end:
                break
        return []

    def abort(self) -> None:
        self._engine.abort()

    def sleep(self) -> None:
        self._engine.sleep()

    def wake_up(self, part: SleepingPart) -> None:
        self._engine.wake_up(part)

    def receive_weights(self, manifest: WeightManifest, verify: bool) -> None:
        self._engine.receive_weights(manifest, verify=verify)

    def write_bucket(self, manifest: WeightManifest, index: int, bucket: Sequence[Any]) -> None:
        """Fetch a piece of the published file from the object store ([1], its reference) into this process's own copy."""
        self._copy = self._copy or WeightCopy()
        try:
            [piece] = ray.get(list(bucket))
        except RayError as error:
            where = f"weight sync, phase transfer, version {manifest.policy_version}"
            # The learner that put it there has died, or its node; or this node cannot get at it.
            kind = PublisherLost if isinstance(error, OwnerDiedError) else RunError
            raise kind(f"{where}: bucket {index} is lost ({type(error).__name__})") from error
        self._copy.write(manifest, index, piece)

    def receive_copy(self, manifest: WeightManifest, verify: bool) -> None:
        """As `receive_weights`, from the copy that `write_bucket` made."""
        self._copy = self._copy or WeightCopy()
        self._engine.receive_weights(replace(manifest, path=self._copy.path(manifest)), verify=verify)

    def join_transfer(self, meeting_point: str, world_size: int, rank_offset: int) -> None:
        cast(DeviceReceiver, self._engine).join_transfer(meeting_point, world_size, rank_offset)

    def receive_bucket(self, manifest: WeightManifest, verify: bool, index: int, bucket: dict[str, Any]) -> None:
        cast(DeviceReceiver, self._engine).receive_bucket(manifest, index, bucket, verify=verify)

    def load_weights(self) -> int:
        """Returns the version that the engine holds now."""
        self._engine.load_weights()
        return self._engine.policy_version

    def reset_prefix_cache(self) -> None:
        self._engine.reset_prefix_cache()

    def verify_weights(self) -> None:
        self._engine.verify_weights()


def rollout_actor(config: RunConfig, resources: Resources) -> Callable[[int], Any]:
    """Return a function that starts the rollout worker of an index, in its place, and gives its handle."""
    rollout = config.rollout
    options = EngineOptions(
        model_path=config.model.path,
        dtype=config.dtype,
        max_prompt_tokens=rollout.max_prompt_tokens,
        max_completion_tokens=rollout.max_completion_tokens,
        temperature=rollout.temperature,
        max_num_seqs=rollout.max_num_seqs,
        tensor_parallel_size=rollout.tensor_parallel_size,
        colocated=resources.colocated,
    )
    actor = ray.remote(RolloutWorker)
    return lambda index: actor.options(**resources.options(index, config.num_threads)).remote(rollout.engine, options)
