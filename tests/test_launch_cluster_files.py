"""launch/cluster/: each file is what its reader takes, and names what there is."""

import copy
import re
import shlex
import subprocess
import sys

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kuberay_schema import RAY_JOB
from ray.autoscaler._private.util import prepare_config, validate_config
from tiny import ROOT

import launch.train
from r1.config import load_config

CLUSTER = ROOT / "launch/cluster"
FILES = sorted(path for path in CLUSTER.iterdir() if path.is_file())
KUBERNETES = "1.31"


def is_shell(command):
    return subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True).returncode == 0


# --- ray_cluster.yaml


def ray_cluster():
    return yaml.safe_load((CLUSTER / "ray_cluster.yaml").read_text())


def own_machines():
    """The same with what its comment at the end says to put in place of AWS's parts."""
    text = (CLUSTER / "ray_cluster.yaml").read_text()
    own = yaml.safe_load("\n".join(line.removeprefix("#: ") for line in text.splitlines() if line.startswith("#: ")))
    replaced = ("max_workers", "provider", "auth", "available_node_types", "head_node_type", "head_setup_commands")
    return {key: value for key, value in ray_cluster().items() if key not in replaced} | own


@pytest.mark.parametrize(("cluster", "provider"), [(ray_cluster, "aws"), (own_machines, "local")])
def test_the_ray_cluster_is_one_by_rays_own_schema(cluster, provider):
    prepared = prepare_config(cluster())
    validate_config(prepared)
    assert prepared["provider"]["type"] == provider
    # A run does not wait for nodes that are still to come: all of them are there from the start.
    assert prepared["max_workers"] == 2
    assert sum(kind.get("min_workers", 0) for kind in prepared["available_node_types"].values()) == 2


def test_rays_schema_finds_what_is_misspelt():
    cluster = ray_cluster() | {"setup_comands": []}
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config(cluster))


def test_the_commands_of_the_ray_cluster_are_shell_and_its_files_are_there():
    cluster = ray_cluster()
    commands = [command for key, value in cluster.items() if key.endswith("_commands") for command in value]
    assert len(commands) == 8
    assert [command for command in commands if not is_shell(command)] == []
    remote, local = next(iter(cluster["file_mounts"].items()))
    assert (ROOT / local / "gpu.lock").is_file()
    assert any(f"--no-deps -r {remote}/gpu.lock" in command for command in commands)


def test_the_ray_cluster_opens_nothing_to_the_world():
    cluster = ray_cluster()
    assert all(kind["node_config"]["SecurityGroupIds"] for kind in cluster["available_node_types"].values())
    starts = [command for key in ("head", "worker") for command in cluster[f"{key}_start_ray_commands"] if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "~/.ray/auth_token" in cluster["file_mounts"]


# --- rayjob.yaml


def manifests():
    return list(yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text()))


def pod_templates(job):
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [job["spec"]["submitterPodTemplate"], *(group["template"] for group in groups)]


def check(manifest):
    """Against the schemas of Kubernetes, or of KubeRay and the pods in it; raises a ValidationError."""
    if manifest["kind"] != "RayJob":
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    jsonschema.validate(manifest, RAY_JOB)
    for template in pod_templates(manifest):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, KUBERNETES, strict=True)


def test_every_manifest_of_the_ray_job_is_one():
    kinds = [manifest["kind"] for manifest in manifests()]
    assert kinds == ["PersistentVolumeClaim", "NetworkPolicy", "RayJob"]
    for manifest in manifests():
        check(manifest)


def head(job):
    return job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]


def worker(job):
    return job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]


@pytest.mark.parametrize(
    "broken",
    [
        lambda job: job["spec"].update(entryPoint="x"),
        lambda job: job["spec"].update(suspend="no"),
        lambda job: job["spec"].pop("rayClusterSpec"),
        lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="password"),
        lambda job: worker(job).update(replica=2),
        lambda job: worker(job).pop("groupName"),
        lambda job: head(job).pop("containers"),
        lambda job: head(job).update(terminationGracePeriod=9),
        lambda job: head(job)["containers"][0].update(lifecycle={"preStop": {"execute": {}}}),
        lambda job: head(job)["volumes"][1]["emptyDir"].update(medium=1),
    ],
)
def test_what_is_wrong_in_a_ray_job_is_found(broken):
    job = copy.deepcopy(manifests()[-1])  # without the anchors, which head and worker share
    broken(job)
    with pytest.raises(jsonschema.ValidationError):
        check(job)


def test_the_parts_of_the_ray_job_fit_together():
    claim, policy, job = manifests()
    templates = pod_templates(job)
    for template in templates:
        spec = template["spec"]
        [container] = spec["containers"]
        assert {mount["name"] for mount in container.get("volumeMounts", [])} == {
            part["name"] for part in spec.get("volumes", [])
        }
        assert template["metadata"]["labels"] == policy["spec"]["podSelector"]["matchLabels"]
        assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
    for template in templates[1:]:
        spec = template["spec"]
        [container] = spec["containers"]
        volumes = {part["name"]: part for part in spec["volumes"]}
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        assert is_shell(container["lifecycle"]["preStop"]["exec"]["command"][2])
        # The run is asked first, then killed, then the pod.
        runtime_env = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
        assert int(runtime_env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) < spec["terminationGracePeriodSeconds"]
    assert {port["containerPort"] for port in head(job)["containers"][0]["ports"]} == {6379, 8265}


def test_what_the_hooks_wait_for_are_processes_of_a_run():
    job = manifests()[-1]
    at_head, at_worker = (
        spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2]
        for spec in (head(job), worker(job)["template"]["spec"])
    )
    [asked, waited] = re.findall(r"-f '([^']*)'", at_head)
    assert asked == waited
    assert re.match(asked, job["spec"]["entrypoint"])
    # Ray calls an actor's process by its class; its own (ray::IDLE, ray::DashboardAgent) stay as long as the node.
    [pattern] = re.findall(r"-f '([^']*)'", at_worker)
    sources = "".join(path.read_text() for path in (ROOT / "r1/runtime").glob("*.py"))
    actors = re.findall(r"^class (\w+Worker)\b", sources, re.MULTILINE)
    assert {name for name in actors if re.match(pattern, f"ray::{name}.step")} == {
        "RolloutWorker",
        "LearnerWorker",
        "RewardWorker",
    }
    assert not re.match(pattern, "ray::IDLE")
    assert not re.match(pattern, "ray::DashboardAgent")


def test_the_entry_point_is_a_run_on_the_gpus_that_come_with_it():
    job = manifests()[-1]
    arguments = shlex.split(job["spec"]["entrypoint"])
    assert arguments[:3] == ["python", "-m", "launch.train"]
    config_path, *rest = arguments[3:]
    config = load_config(ROOT / config_path, [argument for argument in rest if not argument.startswith("--")])
    assert config.run_dir.startswith("/shared/")
    spec = worker(job)
    [container] = spec["template"]["spec"]["containers"]
    gpus = spec["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert gpus == config.rollout.num_workers * config.rollout.tensor_parallel_size == config.learner.num_ranks


# --- Dockerfile


def instructions():
    """[(instruction, its text)], with continued lines joined."""
    lines = [line for line in (CLUSTER / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def test_the_dockerfile_has_known_instructions_and_shell():
    found = instructions()
    assert {name for name, _ in found} <= {"FROM", "ARG", "RUN", "COPY", "ENV", "USER", "WORKDIR"}
    assert found[0] == ("FROM", "python:3.11-slim-bookworm")  # the Python of the locks
    runs = [text for name, text in found if name == "RUN"]
    assert len(runs) == 3
    assert all(is_shell(text) for text in runs)
    assert any("--no-deps" in text for text in runs)
    users = [text for name, text in found if name == "USER"]
    assert users == ["1000"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_image_takes_the_locks_and_nothing_else_of_this_project(device):
    copied = [text.replace("${DEVICE}", device).split() for name, text in instructions() if name == "COPY"]
    [[*sources, _]] = copied
    assert sources == [f"requirements/{device}.lock", "requirements/dev.lock"]
    assert all((ROOT / source).is_file() for source in sources)
    ignored = [line for line in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    assert {f"!{source}" for source in sources} <= set(ignored)


# --- all of them


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_says_what_was_run_of_it_and_names_only_what_there_is(path):
    text = path.read_text()
    if path.suffix != ".dockerignore":
        assert re.search(r"^# Run: ", text, re.MULTILINE)
    named = set(re.findall(r"(?<![\w/])(?:launch|docs|requirements)/[\w./]+\.\w+", text))
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_flags_of_launch_train_that_the_files_pass_are_there(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["launch.train", "--help"])
    with pytest.raises(SystemExit):
        launch.train.main()
    calls = [line for path in FILES for line in path.read_text().splitlines() if "-m launch.train" in line]
    flags = {word for line in calls for word in re.findall(r"(?<!\S)--[a-z-]+", line)}
    assert flags == {"--continue"}
    assert all(flag in capsys.readouterr().out for flag in flags)
