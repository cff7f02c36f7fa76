"""What is sampled, and what is not sampled again, with fakes in place of engines and reward functions."""

from contextlib import contextmanager

import pytest
from loop_fakes import FakeSampler, FakeScorer
from tiny import MODEL
from transformers import AutoTokenizer

from r1.cli.printing import new_console
from r1.errors import UserError
from r1.evaluation.problems import chunks_of, load_prompts
from r1.evaluation.progress import Say
from r1.evaluation.samples import read_problems
from r1.evaluation.settings import engine_config, new_settings
from r1.faults import FaultLog
from r1.runtime import evaluation_sampling
from r1.traces import list_trace_files, read_traces


class Scorer(FakeScorer):
    def wait_until_ready(self):
        pass

    def close(self):
        pass


@pytest.fixture
def started(monkeypatch):
    """The samplers that were started, each with the batches that it was asked for."""
    samplers = []

    class Sampler(FakeSampler):
        def submit(self, batch):
            self.batches.append(batch)
            super().submit(batch)

    @contextmanager
    def workers(config, say):
        samplers.append(Sampler([]))
        samplers[-1].batches = []
        yield samplers[-1], FaultLog()

    monkeypatch.setattr(evaluation_sampling, "_rollout_workers", workers)
    monkeypatch.setattr(evaluation_sampling, "_scorer", lambda *arguments: Scorer())
    return samplers


def settings_of(**given):
    fits = {"template": "plain", "max_prompt_tokens": 16, "max_completion_tokens": 32, "max_num_seqs": 6, "num_samples": 3}
    return new_settings(str(MODEL), {"tasks": [{"name": "arithmetic"}], "num_problems": 10, **fits, **given}, None)


def sample(folder, **given):
    """Sample what is missing; returns the chunks, of 2 x 6 completions, 4 problems, each."""
    folder.mkdir(exist_ok=True)
    settings = settings_of(**given)
    tasks = load_prompts(settings, AutoTokenizer.from_pretrained(MODEL))
    chunks = list(chunks_of(settings, tasks))
    evaluation_sampling.sample_missing(engine_config(settings), folder, chunks, "plain", Say(new_console()))
    return chunks


def test_every_chunk_is_written_once_with_places_and_seeds_of_the_task(started, tmp_path, capsys):
    chunks = sample(tmp_path)
    assert list(list_trace_files(tmp_path, "heldout")) == [1, 2, 3]
    problems = read_problems(tmp_path, [1, 2, 3], "accuracy")
    assert [problem.problem_id for problem in problems] == [p.problem.problem_id for chunk in chunks for p in chunk.prompts]
    assert all(problem.num_right == 1 for problem in problems)  # the second sample of each
    [sampler] = started
    assert [[prompt.group_id for prompt in batch.prompts] for batch in sampler.batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len({(batch.seed, batch.step, batch.group_size, batch.policy_version) for batch in sampler.batches}) == 1
    assert "arithmetic: chunk 3 of 3 done, 10 problems, accuracy 0.333; " in capsys.readouterr().out
    assert read_traces(tmp_path, 3, "heldout")[0].group_id == 8


def test_only_what_is_missing_is_sampled_with_the_same_seeds(started, tmp_path, capsys):
    sample(tmp_path)
    files = list_trace_files(tmp_path, "heldout")
    whole = {number: read_traces(tmp_path, number, "heldout") for number in files}
    files[2].unlink()
    (tmp_path / "traces/.heldout-000002.parquet.tmp").write_bytes(b"half")
    sample(tmp_path)
    assert [batch.prompts[0].group_id for batch in started[1].batches] == [4]
    assert started[1].batches[0] == started[0].batches[1]
    assert {number: read_traces(tmp_path, number, "heldout") for number in list_trace_files(tmp_path, "heldout")} == whole
    assert "2 of 3 chunks are there already" in capsys.readouterr().out
    sample(tmp_path)
    assert len(started) == 2  # nothing was missing, nothing was started


@pytest.mark.slow
def test_seeds_are_no_matter_of_chunks_and_differ_between_seeds(started, tmp_path):
    sample(tmp_path / "small")
    sample(tmp_path / "large", max_num_seqs=100)
    sample(tmp_path / "seed 1", seed=1)
    small, large, other = ([(batch.seed, batch.step) for batch in sampler.batches] for sampler in started)
    assert set(small) == set(large) != set(other)
    assert read_problems(tmp_path / "small", [1, 2, 3], "accuracy") == read_problems(tmp_path / "large", [1], "accuracy")


def test_files_of_other_problems_are_refused(started, tmp_path):
    sample(tmp_path, num_problems=9)
    with pytest.raises(UserError, match=r"heldout-000003.parquet' holds other prompts or golds than the task 'arithmetic' has now"):
        sample(tmp_path)
