"""Checkpoints of a run at a URL with learner ranks on several nodes: plain objects, a scratch folder each."""

import fake_ray
import pytest
from fake_ray import FakeHandle
from stored_runs import begin, config_at, write_checkpoint, write_step

from r1 import node_scratch, storage
from r1.checkpoint import begin_checkpoint, finish_checkpoint, latest_checkpoint
from r1.faults import FaultLog
from r1.node_scratch import NodeScratch
from r1.run_mirror import RunMirror
from r1.run_place import begin_writing, new_place, resumed_place
from r1.runtime import calls
from r1.runtime.calls import Worker
from r1.runtime.learner_nodes import HasScratch, LearnerNodes
from r1.storage import StorageError, Stored, open_storage, scratch_folder
from r1.types import Progress


class Rank(HasScratch):
    """Writes what a rank of torch.distributed.checkpoint writes, on its own node."""

    def __init__(self, number, node, nodes):
        self.number, self.node, self.nodes = number, node, nodes

    def open_scratch(self, url, writer):
        self.nodes.go_to(self.node)
        self.scratch = NodeScratch(url, writer)
        self.nodes.go_to("driver")
        return self.scratch.is_drivers, self.node

    def save(self, partial):
        folder = self.scratch.begin(partial) / "learner"
        folder.mkdir(exist_ok=True)
        (folder / f"__{self.number}_0.distcp").write_text(f"part of rank {self.number}")
        if self.number == 0:
            (folder / ".metadata").write_text("index")

    def parts(self, checkpoint):
        return sorted(path.name for path in (self.scratch.folder / checkpoint / "learner").iterdir())


class Nodes:
    """Machines with a TMPDIR each."""

    def __init__(self, root, monkeypatch):
        self.root, self.monkeypatch = root, monkeypatch
        self.go_to("driver")

    def go_to(self, name):
        (self.root / name).mkdir(exist_ok=True)
        self.monkeypatch.setattr(storage.tempfile, "tempdir", str(self.root / name))


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    monkeypatch.setattr(calls.ray, "wait", fake_ray.wait)
    monkeypatch.setattr(calls.ray, "get", fake_ray.get)
    monkeypatch.setattr(node_scratch, "PAUSE_S", 0.01)
    return Nodes(tmp_path, monkeypatch)


def begun(nodes):
    """A new run on the driver's node, whose name for the writer is settled."""
    url = f"file://{nodes.root}/bucket/run"
    place = new_place(config_at(url), open_storage(url))
    begin(place.folder, config_at(url))
    write_step(place.folder, 1)
    begin_writing(place.folder)
    return place


def ranks_on(nodes, places, place, **options):
    ranks = [Rank(number, node, nodes) for number, node in enumerate(places)]
    workers = [Worker(name=f"learner rank {rank.number}", handle=FakeHandle(rank)) for rank in ranks]
    return ranks, LearnerNodes(workers, place.storage, place.folder, deadline_s=5.0, **options)


def save(place, ranks, step):
    partial = begin_checkpoint(place.folder, step)
    for rank in ranks:
        rank.save(partial.relative_to(place.folder))
    return partial


@pytest.mark.parametrize("places", [["driver", "far", "far"], ["far", "driver", "far"], ["far", "farther", "far"]])
def test_every_node_sends_its_part_and_can_go_on(nodes, places):
    place = begun(nodes)
    with RunMirror(place, FaultLog()) as mirror:
        ranks, group = ranks_on(nodes, places, place)
        assert not group.share_folder
        partial = save(place, ranks, 1)
        assert group.problem_of_sending(partial, 5.0) is None
        finish_checkpoint(partial, Progress(step=1), config_at(place.storage.url))
        mirror.wake()
    checkpoint = "checkpoints/step-000001"
    parts = [f"{checkpoint}/learner/{name}" for name in (".metadata", "__0_0.distcp", "__1_0.distcp", "__2_0.distcp")]
    assert [name for name in place.storage.files(f"{checkpoint}") if "/learner/" in name] == parts
    assert f"{checkpoint}/progress.json" in place.storage.files()
    for node in set(places) - {"driver"}:
        nodes.go_to(node)
        left = scratch_folder(place.storage.url) / "checkpoints"
        assert list(left.iterdir()) == [], "what was sent needs no room any more"
    nodes.go_to("driver")

    place.remove_scratch()
    again = resumed_place(place.storage.url, place.storage)
    folder, progress = latest_checkpoint(again.folder)
    assert progress.step == 1
    ranks, group = ranks_on(nodes, places, again)
    group.fetch(folder)
    assert [rank.parts(checkpoint) for rank in ranks] == [[name.rpartition("/")[2] for name in parts]] * 3
    group.drop(folder)
    assert [(rank.scratch.folder / checkpoint).exists() for rank in ranks] == [node == "driver" for node in places]


def test_on_one_node_nothing_is_sent_by_ranks(nodes):
    place = begun(nodes)
    with RunMirror(place, FaultLog()):
        ranks, group = ranks_on(nodes, ["driver", "driver"], place)
        assert group.share_folder
        partial = save(place, ranks, 1)
        assert group.problem_of_sending(partial, 5.0) is None
        assert place.storage.files("checkpoints") == {}
        folder = finish_checkpoint(partial, Progress(step=1), config_at(place.storage.url))
        group.fetch(folder)  # a learner that was lost: all is here, whether storage can be reached or not
    assert len([name for name in place.storage.files("checkpoints") if "/learner/" in name]) == 3

    place.remove_scratch()
    again = resumed_place(place.storage.url, place.storage)
    folder, _ = latest_checkpoint(again.folder)
    ranks, group = ranks_on(nodes, ["driver", "driver"], again)
    group.fetch(folder)
    assert ranks[0].parts("checkpoints/step-000001") == [".metadata", "__0_0.distcp", "__1_0.distcp"]


def test_a_checkpoint_of_the_drivers_node_alone_is_sent_before_other_nodes_fetch_it(nodes):
    place = begun(nodes)
    write_checkpoint(place.folder, 1)  # the driver was killed before it was sent
    again = resumed_place(place.storage.url, place.storage)
    folder, _ = latest_checkpoint(again.folder)
    with RunMirror(again, FaultLog()) as mirror:
        ranks, group = ranks_on(nodes, ["far"], again, send_checkpoint=mirror.send_checkpoint)
        group.fetch(folder)
        assert ranks[0].parts("checkpoints/step-000001") == [".metadata", "__0_0.distcp"]


def test_a_part_that_is_not_taken_is_tried_again_and_no_checkpoint_before(nodes, monkeypatch):
    place = begun(nodes)
    ranks, group = ranks_on(nodes, ["elsewhere", "far"], place)
    failures = ["s3 is away"]
    upload = NodeScratch.upload

    def fails_at_first(self, path, name):
        if failures:
            raise StorageError(failures[0])
        upload(self, path, name)

    monkeypatch.setattr(NodeScratch, "upload", fails_at_first)
    partial = save(place, ranks, 1)
    assert group.problem_of_sending(partial, 0.1) == "s3 is away"
    assert group.problem_of_sending(partial, 0.0) is not None
    failures.clear()
    assert group.problem_of_sending(partial, 5.0) is None
    assert "checkpoints/step-000001/learner/__1_0.distcp" in place.storage.files()


def test_the_next_checkpoint_takes_the_place_of_one_that_is_not_sent(nodes, monkeypatch):
    place = begun(nodes)
    ranks, group = ranks_on(nodes, ["far", "farther"], place)
    monkeypatch.setattr(node_scratch, "MAX_FAILURES", 1)
    upload = NodeScratch.upload

    def refuse(self, path, name):
        raise StorageError("s3 is away")

    monkeypatch.setattr(NodeScratch, "upload", refuse)
    assert group.problem_of_sending(save(place, ranks, 1), 60.0) == "s3 is away"
    monkeypatch.setattr(NodeScratch, "upload", upload)
    assert group.problem_of_sending(save(place, ranks, 2), 5.0) is None
    assert "checkpoints/step-000002/learner/__1_0.distcp" in place.storage.files()


def test_a_node_writes_nothing_outside_its_scratch_folder(nodes, tmp_path):
    (tmp_path / "run/checkpoints/step-000001/learner").mkdir(parents=True)
    (tmp_path / "planted").write_text("planted")
    name = "checkpoints/step-000001/learner/../../../../planted"  # as an object store may list it
    scratch = NodeScratch(f"file://{tmp_path}/run", "writer")
    scratch._storage.files = lambda folder: {name: Stored(size=7, version="1")}
    with pytest.raises(StorageError, match="leads out of the folder"):
        scratch.fetch("checkpoints/step-000001")
    assert not list(nodes.root.rglob("driver/**/planted"))
