"""Reward functions that hang or kill their process, children that are killed: nothing is lost, nobody is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from random import Random

import math_rows_algebra
import math_rows_structures
import pytest
from misbehaving_rewards import child_pids, is_alive, wait_until

from r1.config import ScoringConfig
from r1.scoring import RewardPool
from rewards.math_answer import math_answer

pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize("hang", ["hang", "hang in C"])
def test_a_hanging_reward_is_killed_and_the_others_are_not_lost(shared_pool, on_command, hang):
    timeouts, restarts, pids = shared_pool.num_timeouts[on_command], shared_pool.num_restarts, child_pids(shared_pool)
    scores = shared_pool.score_texts([("fine", {}), (hang, {}), *[("fine", {})] * 20])
    assert scores[1].error == f"{on_command}: timed out after 0.5 s"
    assert scores[1].reward is None
    assert 0.5 <= scores[1].score_s < 30
    assert [score.reward for i, score in enumerate(scores) if i != 1] == [1.0] * 21
    assert (shared_pool.num_timeouts[on_command], shared_pool.num_restarts) == (timeouts + 1, restarts + 1)
    [killed] = set(pids) - set(child_pids(shared_pool))
    assert not is_alive(killed)


@pytest.mark.slow
def test_the_slow_reward_is_named_and_the_parts_before_it_are_kept(reward_file, on_command):
    length, is_gold = f"{reward_file}:length", f"{reward_file}:is_gold"
    with RewardPool({length: 1.0, on_command: 1.0, is_gold: 1.0}, ScoringConfig(deadline_s=0.3), num_children=1) as pool:
        [score] = pool.score_texts([("hang", {"answer": "hang"})])
    assert score.breakdown == {length: 4.0, on_command: None, is_gold: None}
    assert score.error == f"{on_command}: timed out after 0.3 s"
    assert score.failures == {on_command: "timeout"}
    assert pool.num_errors == {on_command: 1}


@pytest.mark.slow
def test_a_slow_start_does_not_count_as_a_slow_completion(tmp_path):
    path = tmp_path / "slow_to_load.py"
    path.write_text(
        "import time, functools\ntime.sleep(0.4)\n"
        "@functools.cache\ndef build_parser(): time.sleep(0.4)\n"
        "def warm_up(): build_parser()\n"
        "def one(completion, reference): build_parser(); return 1\n"
    )
    with RewardPool({f"{path}:one": 1.0}, ScoringConfig(deadline_s=0.3), num_children=1) as pool:
        assert pool.score_texts([("", {})])[0].reward == 1.0


@pytest.mark.slow
def test_printing_and_reading_cannot_corrupt_the_protocol(on_command):
    code = (
        "from r1.config import ScoringConfig; from r1.scoring import RewardPool\n"
        f"with RewardPool({{'{on_command}': 1.0}}, ScoringConfig()) as pool:\n"
        "    print([score.reward for score in pool.score_texts([('print', {}), ('fine', {})])])"
    )
    finished = subprocess.run([sys.executable, "-c", code], input="typed", capture_output=True, text=True, timeout=20)
    # "print" returns how much it could read: nothing. What it prints looks like an answer, and went to stderr twice.
    assert finished.stdout == "[0.0, 1.0]\n"
    assert finished.stderr == "[1.0, null]\n" * 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_child_killed_or_stopped_from_outside_loses_no_completion(shared_pool, on_command, how):
    restarts, timeouts = shared_pool.num_restarts, shared_pool.num_timeouts[on_command]
    victim = child_pids(shared_pool)[0]
    killer = threading.Timer(0.2, os.kill, (victim, how))
    killer.start()
    scores = shared_pool.score_texts([("slowly", {})] * 16)  # 16 x 0.05 s over two children: 0.4 s
    killer.join()
    assert [(score.reward, score.error) for score in scores] == [(1.0, None)] * 16
    assert shared_pool.num_restarts == restarts + 1
    assert shared_pool.num_timeouts[on_command] == timeouts
    assert not is_alive(victim)
    assert victim not in child_pids(shared_pool)


@pytest.mark.slow
def test_a_child_that_is_stopped_while_it_starts_is_replaced(on_command, monkeypatch):
    spawn, stopped = RewardPool._spawn, []

    def spawn_and_stop_the_first(pool):
        spawn(pool)
        if not stopped:
            stopped.append(child_pids(pool)[-1])
            os.kill(stopped[0], signal.SIGSTOP)
            pool._children[-1].kill_at = time.monotonic() + 0.5

    monkeypatch.setattr(RewardPool, "_spawn", spawn_and_stop_the_first)
    with RewardPool({on_command: 1.0}, ScoringConfig(), num_children=1) as pool:
        [score] = pool.score_texts([("fine", {})])
    assert (score.reward, score.error) == (1.0, None)
    assert not is_alive(stopped[0])


@pytest.mark.slow
def test_a_stopped_child_does_not_outlive_its_parent(on_command):
    code = (
        "import os, signal, time; from r1.config import ScoringConfig; from r1.scoring import RewardPool\n"
        f"pool = RewardPool({{'{on_command}': 1.0}}, ScoringConfig(), num_children=1)\n"
        "pool.score_texts([('fine', {})])\n"
        "child = pool._children[0].process.pid\n"
        "print(child, flush=True)\n"
        "os.kill(child, signal.SIGSTOP)\n"
        "while not pool._children[0].is_stopped(): time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout)
    deadline = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


@pytest.mark.slow
def test_a_completion_whose_child_dies_is_tried_again_and_then_an_error(shared_pool, on_command, tmp_path):
    texts = [("die once", {"marker": str(tmp_path / "died")}), ("crash", {}), ("die", {})]
    [once, crash, always] = shared_pool.score_texts(texts)
    assert (once.reward, once.error) == (1.0, None)
    # A crash is the completion's own doing; a kill may come from anywhere, so it takes more of them to say so.
    assert (crash.reward, crash.error) == (None, f"{on_command}: its process died 2 times (killed by SIGABRT)")
    assert (always.reward, always.error) == (None, f"{on_command}: its process died 6 times (killed by SIGKILL)")


@pytest.mark.slow
def test_a_process_that_a_reward_started_is_killed_with_it(shared_pool, tmp_path):
    pid_file = tmp_path / "pid"
    [score] = shared_pool.score_texts([("start a process", {"pid_file": str(pid_file)})])
    assert "timed out" in score.error
    wait_until(lambda: not is_alive(int(pid_file.read_text())))


@pytest.mark.slow
def test_a_pool_made_in_a_thread_that_has_ended_serves_other_threads(on_command):
    pools, results = [], {}
    maker = threading.Thread(target=lambda: pools.append(RewardPool({on_command: 1.0}, ScoringConfig(), num_children=1)))
    maker.start()
    maker.join()
    [pool] = pools
    pids = child_pids(pool)

    def score(number):
        results[number] = [score.reward for score in pool.score_texts([("slowly", {})] * number)]

    threads = [threading.Thread(target=score, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [1.0] * number for number in range(1, 5)}
    assert child_pids(pool) == pids, "no child died with the thread that started it"
    pool.close()


def test_close_leaves_no_child_and_no_way_back(on_command):
    with RewardPool({on_command: 1.0}, ScoringConfig(), num_children=2) as pool:
        pids = child_pids(pool)
        assert all(map(is_alive, pids))
    assert not any(map(is_alive, pids))
    with pytest.raises(ValueError, match="this RewardPool is closed"):
        pool.score_texts([("fine", {})])


def test_an_interrupted_call_leaves_nothing_for_the_next_to_wait_for(on_command):
    with RewardPool({on_command: 1.0}, ScoringConfig(deadline_s=5.0), num_children=2) as pool:
        pids = child_pids(pool)
        interrupter = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            pool.score_texts([("hang", {})] * 4)
        interrupter.join()
        assert not any(map(is_alive, pids))
        assert [score.reward for score in pool.score_texts([("fine", {})] * 3)] == [1.0] * 3
    assert pool.num_timeouts == {}


KILL_PARENT = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("completion", "ending"),
    [("fine", "pass"), ("fine", KILL_PARENT), ("hang in C", f"threading.Timer(0.1, lambda: {KILL_PARENT}).start()")],
)
def test_no_child_outlives_its_parent(on_command, completion, ending):
    code = (
        "import os, signal, threading; from r1.config import ScoringConfig; from r1.scoring import RewardPool\n"
        f"pool = RewardPool({{'{on_command}': 1.0}}, ScoringConfig(deadline_s=0.5))\n"
        f"print(*[child.process.pid for child in pool._children], flush=True)\n{ending}\n"
        f"pool.score_texts([('{completion}', {{}})])"
    )
    finished = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = list(map(int, finished.stdout.split()))
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killing_children_at_random_loses_no_result_and_changes_none():
    # Answers of all kinds, right and wrong, judged here first: the pool must say the same of each, whoever is killed.
    rows = [row[:3] for table in (*math_rows_algebra.ROWS.values(), *math_rows_structures.ROWS.values()) for row in table]
    items = [(f"<answer>{rows[k % len(rows)][1]}</answer>", {"answer": rows[k % len(rows)][0]}) for k in range(10_000)]
    expected = [math_answer(*item) for item in items]
    random = Random(0)
    num_kills = 0
    with RewardPool({"math_answer": 1.0}, ScoringConfig(deadline_s=30.0), num_children=2) as pool:
        finished = threading.Event()

        def kill_at_random():
            nonlocal num_kills
            while not finished.wait(random.uniform(0.02, 0.3)):
                with suppress(IndexError, ProcessLookupError):  # just being replaced
                    os.kill(random.choice(pool._children).process.pid, signal.SIGKILL)
                    num_kills += 1

        killer = threading.Thread(target=kill_at_random)
        killer.start()
        try:
            # All of them, and again until enough children were killed, however fast this machine judges.
            while True:
                assert [score.reward for score in pool.score_texts(items)] == expected
                if num_kills >= 10:
                    break
        finally:
            finished.set()
            killer.join()
        assert pool.num_errors == {}
