#!/usr/bin/env bash
# Train on the nodes of a Slurm allocation, from the top folder of a checkout that all of them see, with its .venv
# (make setup DEVICE=gpu):
#
#   sbatch [--nodes=N ...] launch/cluster/slurm.sh CONFIG.toml [section.option=value ...]
#   sbatch launch/cluster/slurm.sh launch/configs/dr_grpo.toml run_dir=/shared/runs/dr_grpo
#
#   scancel --batch --signal=TERM JOBID    ends the run with a checkpoint; the same sbatch command goes on from it
#   scancel JOBID                          ends it at once: what came after the last checkpoint is done again
#
# Ten minutes before its time is over the job writes a checkpoint and is queued again; so does Slurm when a node fails, without
# the checkpoint. It then goes on where it was (--continue). Nothing listens but Ray's own ports, and those ask for a token that
# is made for this job. The dashboard is off.
#
#   R1_PYTHON      the Python that runs it             (default: .venv/bin/python)
#   R1_RAY_LOGS    a folder that gets Ray's own logs   (default: they go with the rest of /tmp/r1-JOBID-NODE)
#
# Run: all of it with an srun and scontrol that start two "nodes" on one machine, with a real Ray and a training in name only
# (tests/test_launch_cluster_slurm.py). Not run: Slurm, two machines, a GPU.
#SBATCH --job-name=r1
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
#SBATCH --signal=B:USR1@600
set -euo pipefail

if [[ $# -lt 1 || $1 == -h || $1 == --help ]]; then
    sed -n '2,/^# Run:/{/^# Run:/!s/^# \{0,1\}//p}' "$0"
    exit 2
fi
fail() { echo "error: $*" >&2; exit 2; }

cd "${SLURM_SUBMIT_DIR:?this is for sbatch: sbatch launch/cluster/slurm.sh CONFIG.toml}"   # $0 is a copy in Slurm's own folder
[[ -f $1 ]] || fail "config file '$1' does not exist in $PWD; run sbatch in the top folder of the checkout"
export R1_PYTHON=${R1_PYTHON:-$PWD/.venv/bin/python}
[[ -x $R1_PYTHON ]] || fail "no Python at '$R1_PYTHON': run 'make setup DEVICE=gpu' here first, or name one in R1_PYTHON"

# Below Linux's own range for outgoing connections (from 32768), and different for jobs that may share a node.
export R1_PORT=$((20000 + SLURM_JOB_ID % 1000 * 10))
R1_HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export R1_HEAD RAY_ADDRESS=$R1_HEAD:$R1_PORT RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$("$R1_PYTHON" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

# What each node runs, as one task: the first one the head, the others join it.
ray_node='
folder=/tmp/r1-$SLURM_JOB_ID-$SLURM_NODEID   # short: Ray puts sockets there, whose paths may have 107 characters
options=(--num-cpus="$SLURM_CPUS_ON_NODE" --temp-dir="$folder" --disable-usage-stats --block)
if [[ $SLURM_NODEID == 0 ]]; then
    where=(--head --port="$R1_PORT" --ray-client-server-port="$((R1_PORT + 1))" --include-dashboard=false)
else
    where=(--address="$R1_HEAD:$R1_PORT")
    until (exec 3<> "/dev/tcp/$R1_HEAD/$R1_PORT") 2> /dev/null; do
        ((SECONDS < 300)) || { echo "error: $(hostname): no Ray head at $R1_HEAD:$R1_PORT after $SECONDS s" >&2; exit 1; }
        sleep 1
    done
fi
"$(dirname "$R1_PYTHON")/ray" start "${where[@]}" "${options[@]}" > /dev/null &
ray=$!
trap "kill -TERM $ray" TERM
wait "$ray" || wait "$ray" || true   # the trap ends the first wait, not Ray
if [[ -n ${R1_RAY_LOGS:-} ]]; then
    mkdir -p "$R1_RAY_LOGS"
    cp -r "$folder"/session_[0-9]*/logs "$R1_RAY_LOGS/$SLURM_JOB_ID-$SLURM_NODEID" || true
fi
rm -rf "$folder"
'
# Left alone, srun would bind Ray and all that it starts to one core.
srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --cpu-bind=none bash -c "$ray_node" &
nodes=$!
trap 'kill -TERM "$nodes" 2> /dev/null || true; wait "$nodes" || true' EXIT

# A run compares what it wants with the nodes that are there, once: wait for all of them.
"$R1_PYTHON" - "$SLURM_NNODES" << 'PYTHON' &
import logging, sys, time
import ray

deadline = time.monotonic() + 300
while True:
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        break
    except ConnectionError:
        if time.monotonic() > deadline:
            sys.exit("error: no Ray head after 300 s; see what its node printed above")
        time.sleep(1)
wanted = int(sys.argv[1])
while (joined := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"error: only {joined} of {wanted} nodes joined Ray within 300 s; see what they printed above")
    time.sleep(1)
print(f"Ray runs on {joined} node(s): {ray.cluster_resources()}", flush=True)
PYTHON
wait $!

# Signals are for the driver, which ends with a checkpoint; SIGTERM again is the same request.
driver= stopped_for=
stop() {
    [[ -n $driver ]] || exit 1
    ! kill -TERM "$driver" 2> /dev/null || stopped_for=$1
}
trap 'stop end' TERM INT
trap 'stop time' USR1
"$R1_PYTHON" -m launch.train "$@" --continue &
driver=$!
status=0
wait "$driver" || status=$?
if [[ -n $stopped_for ]]; then
    status=0
    wait "$driver" || status=$?
fi

if [[ $stopped_for == time && $status != 0 ]]; then
    trap - EXIT
    kill -TERM "$nodes" 2> /dev/null || true
    wait "$nodes" || true
    echo "the time is over: job $SLURM_JOB_ID is queued again, and goes on with --continue"
    scontrol requeue "$SLURM_JOB_ID"   # ends this script
fi
exit "$status"
