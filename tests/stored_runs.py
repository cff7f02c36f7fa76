"""Run folders made by hand, and storage that fails as it is told to."""

import json
import threading
from dataclasses import asdict

from tiny import tiny_config

from r1.run_place import new_place
from r1.storage import Storage, StorageError, open_storage
from r1.types import Progress


def config_at(url, *overrides):
    return tiny_config(f"run_dir={url}", *overrides)


def write_step(folder, step, *, accuracy=None):
    """What a step leaves: a line of metrics, a trace file; with an accuracy, an evaluation after it as well."""
    (folder / "traces").mkdir(exist_ok=True)
    (folder / f"traces/step-{step:06d}.parquet").write_text(f"trace of {step}")
    events = [{"kind": "step", "step": step, "policy_version": step, "metrics": {}, "timings_s": {}}]
    if accuracy is not None:
        events.append({"kind": "heldout", "step": step, "policy_version": step, "metrics": {"accuracy": accuracy}, "timings_s": {}})
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def write_checkpoint(folder, step, *, is_finished=True):
    checkpoint = folder / f"checkpoints/step-{step:06d}"
    for name in ("learner/.metadata", "learner/__0_0.distcp", "hf/model.safetensors", "config.json"):
        path = checkpoint / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} of {step}")
    if is_finished:
        progress = Progress(step=step, policy_version=step, num_prompts_drawn=step)
        (checkpoint / "progress.json").write_text(json.dumps(asdict(progress)))
    return checkpoint


def begin(folder, config):
    (folder / "config.json").write_text(config.model_dump_json())


class ToldStorage(Storage):
    """Notes what happens; `fails(name)` says which uploads fail, `holds` lets them wait."""

    def __init__(self, url):
        real = open_storage(url)
        super().__init__(real.url, real._filesystem, real._root)
        self.events = []
        self.fails = lambda name: False
        self.holds = threading.Event()
        self.holds.set()

    def upload(self, path, name):
        self.holds.wait()
        if self.fails(name):
            self.events.append(f"failed {name}")
            raise StorageError(f"{self.url} did not take {name}: the cable is out")
        super().upload(path, name)
        self.events.append(f"sent {name}")

    def download(self, name, folder, size=0):
        super().download(name, folder, size)
        self.events.append(f"fetched {name}")

    def remove(self, names):
        super().remove(names)
        self.events += [f"removed {name}" for name in names]


def begun(url):
    """A new run with its config.json, and the storage that is told how to behave."""
    told, config = ToldStorage(url), config_at(url)
    place = new_place(config, told)
    begin(place.folder, config)
    return place, told


def sent(told):
    return [event.removeprefix("sent ") for event in told.events if event.startswith("sent ")]


def wait_until(is_true):
    for _ in range(500):
        if is_true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen within 5 s")
