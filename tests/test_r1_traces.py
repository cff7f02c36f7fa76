import dataclasses
from array import array
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored_groups import scored_group

from r1.errors import UserError
from r1.files import atomic_file
from r1.trace_choice import TraceChoice
from r1.trace_stats import TraceSummary, summarize
from r1.traces import TraceRow, is_empty, list_trace_files, read_lengths, read_rows, read_traces, write_traces
from r1.types import TokenValues


def test_a_row_returns_exactly_as_it_was_written(tmp_path: Path):
    group = scored_group(
        ["2</think>19 is it é 🙂\x00\x1b[2J"],
        [1.1],
        group_id=3,
        advantages=[0.5],
        breakdowns=[{"accuracy": 1.0, "reasoning_format": None}],
        prefill="<think>",
        num_tokens=[3],
    )

    path = write_traces(tmp_path, 12, [group], template="r1_zero_prefill")

    assert path == tmp_path / "traces" / "step-000012.parquet"
    assert read_traces(tmp_path, 12) == [
        TraceRow(
            schema_version=2,
            step=12,
            split="train",
            task="arithmetic",
            template="r1_zero_prefill",
            group_id=3,
            sample_id=0,
            problem_id="problem-3",
            question="12+7=",
            reference={"answer": "19"},
            prompt_text="12+7=<think>",
            prefill="<think>",
            completion="2</think>19 is it é 🙂\x00\x1b[2J",
            token_ids=(0, 1, 2),
            rollout_logprobs=(-0.5, -0.5, -0.5),
            finish_reason="stop",
            policy_version=4,
            reward=1.1,
            breakdown={"accuracy": 1.0, "reasoning_format": None},
            error=None,
            advantage=0.5,
            num_tokens=3,
        )
    ]


def test_changes_of_weights_and_groups_that_were_not_learnt_from_are_kept(tmp_path: Path):
    group = scored_group(["a"], [0.0], num_tokens=[9])
    [completion] = group.completions
    changed = dataclasses.replace(completion, later_versions=((5, 3), (6, 8)))
    write_traces(tmp_path, 1, [dataclasses.replace(group, completions=(changed,), is_learnt=False)], template="plain")
    [row] = read_traces(tmp_path, 1)
    assert (row.is_learnt, row.later_versions) == (False, ((5, 3), (6, 8)))


def test_files_of_version_1_are_read(tmp_path: Path):
    path = write_traces(tmp_path, 1, [scored_group(["a", "b"], [0.0, 1.0], num_tokens=[3, 4])], template="plain")
    table = pq.read_table(path).select([field.name for field in dataclasses.fields(TraceRow)][:23])  # up to later_versions
    maps = {
        "schema_version": pa.array([1, 1], pa.int32()),
        "breakdown": pa.array([[("accuracy", 0.0)], [("accuracy", 1.0), ("format", None)]], pa.map_(pa.string(), pa.float64())),
        "later_versions": pa.array([[], [(5, 3)]], pa.map_(pa.int32(), pa.int32())),
    }
    for name, column in maps.items():
        table = table.set_column(table.column_names.index(name), name, column)
    for kept in (table, table.drop_columns(["later_versions"])):
        pq.write_table(kept, path)
        first, second = read_traces(tmp_path, 1)
        assert (first.schema_version, first.num_tokens, first.old_logprobs, first.sample_s) == (1, 3, (), None)
        assert (first.breakdown, second.breakdown) == ({"accuracy": 0.0}, {"accuracy": 1.0, "format": None})
        assert second.later_versions == (((5, 3),) if kept is table else ())
        assert [summarize(tmp_path, 1).completion_tokens, read_lengths(tmp_path, 1)] == [3.5, [[3, 4]]]
    pq.write_table(table.drop_columns(["is_learnt"]), path)
    assert all(row.is_learnt for row in read_traces(tmp_path, 1))


def with_values(group):
    """The group with what a learner says of its first completion; the others were not in the loss."""
    values = TokenValues(old_logprobs=array("f", [-0.5, -0.25]), entropies=array("f", [1.5, 0.125]))
    return dataclasses.replace(group, token_values=(values, *[None] * (len(group.completions) - 1)))


def test_what_the_learner_says_of_each_token_is_kept(tmp_path: Path):
    write_traces(tmp_path, 1, [with_values(scored_group(["a", "b"], [0.0, 1.0]))], template="plain")
    first, second = read_traces(tmp_path, 1)
    assert (first.old_logprobs, first.entropies) == ((-0.5, -0.25), (1.5, 0.125))
    assert (second.old_logprobs, second.entropies) == ((), ())


def test_text_alone_leaves_out_everything_by_token_and_keeps_the_length(tmp_path: Path):
    choice = TraceChoice.parse("text")
    write_traces(tmp_path, 1, [with_values(scored_group(["a"], [0.0]))], template="plain", choice=choice)
    write_traces(tmp_path, 1, [scored_group(["a"], [0.0])], template="plain", split="heldout", choice=choice)
    [row], [heldout] = read_traces(tmp_path, 1), read_traces(tmp_path, 1, "heldout")
    assert (row.token_ids, row.rollout_logprobs, row.old_logprobs, row.entropies) == ((), (), (), ())
    assert (row.completion, row.num_tokens, heldout.token_ids, heldout.num_tokens) == ("a", 2, (), 2)


def test_a_file_without_completions_is_empty_and_a_damaged_one_is_not(tmp_path: Path):
    groups = [scored_group(["a"], [0.0])]
    assert is_empty(write_traces(tmp_path, 1, groups, template="plain", choice=TraceChoice.parse("text:0")))
    path = write_traces(tmp_path, 2, groups, template="plain")
    assert not is_empty(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert not is_empty(path)
    path.unlink()
    assert not is_empty(path)


def test_the_command_to_look_at_samples_names_the_last_step_where_it_is_stored_whole():
    assert TraceChoice.parse("tokens").show_command("runs/a", 9) == "r1 traces show runs/a --step 9"
    assert TraceChoice.parse("tokens:0.5").show_command("runs/a", 9) == "r1 traces show runs/a"


def test_a_share_keeps_whole_groups_and_the_same_ones_again(tmp_path: Path):
    groups = [scored_group(["a", "b"], [0.0, 1.0], group_id=group_id) for group_id in range(400)]
    choice = TraceChoice.parse("tokens:0.25")

    def kept(step: int, seed: int) -> list[int]:
        write_traces(tmp_path, step, groups, template="plain", choice=choice, seed=seed)
        rows = read_traces(tmp_path, step)
        assert [row.sample_id for row in rows] == [0, 1] * (len(rows) // 2)
        return [row.group_id for row in rows[::2]]

    first = kept(1, 0)
    assert 70 <= len(first) <= 130  # of 400 x 0.25 = 100, with a standard deviation of 8.7
    assert kept(1, 0) == first
    assert len({tuple(first), tuple(kept(2, 0)), tuple(kept(1, 1))}) == 3
    # All of a held-out evaluation: pass rates of some of its problems would be another figure.
    write_traces(tmp_path, 1, groups, template="plain", split="heldout", choice=choice)
    assert len(read_traces(tmp_path, 1, "heldout")) == 800


def test_some_completions_are_read_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("r1.trace_writer.ROWS_PER_ROW_GROUP", 3)  # a group of two lies in two of the file's parts
    groups = [with_values(scored_group(["a", "b"], [0.0, 1.0], group_id=group_id)) for group_id in (2, 0, 1)]
    write_traces(tmp_path, 1, groups, template="plain")
    rows = read_traces(tmp_path, 1)
    assert read_rows(tmp_path, 1, [(1, 1), (0, 0), (1, 0), (9, 9)]) == [rows[0], rows[2], rows[3]]
    assert read_rows(tmp_path, 1, [(9, 9)]) == []


def test_an_unjudged_completion_keeps_its_error_and_no_reward(tmp_path: Path):
    write_traces(tmp_path, 1, [scored_group(["a", "b"], [None, 0.0], errors=["accuracy: timed out", None])], template="plain")

    failed, judged = read_traces(tmp_path, 1)

    assert (failed.reward, failed.error, failed.breakdown) == (None, "accuracy: timed out", {"accuracy": None})
    assert (judged.reward, judged.error) == (0.0, None)


def test_rows_come_in_the_order_of_group_and_sample(tmp_path: Path):
    groups = [scored_group(["a", "b"], [0.0, 0.0], group_id=group_id) for group_id in (5, 2)]
    write_traces(tmp_path, 1, groups, template="plain")

    assert [(row.group_id, row.sample_id) for row in read_traces(tmp_path, 1)] == [(2, 0), (2, 1), (5, 0), (5, 1)]


def test_heldout_rows_have_their_own_file_and_no_advantage(tmp_path: Path):
    group = scored_group(["19"], [1.0], advantages=[0.7])
    write_traces(tmp_path, 0, [group], template="plain", split="heldout")

    assert list_trace_files(tmp_path, "heldout") == {0: tmp_path / "traces" / "heldout-000000.parquet"}
    assert list_trace_files(tmp_path, "train") == {}
    (row,) = read_traces(tmp_path, 0, "heldout")
    assert (row.split, row.advantage) == ("heldout", None)


def test_the_columns_of_the_file_are_the_fields_of_a_trace_row(tmp_path: Path):
    schema = pq.read_schema(write_traces(tmp_path, 1, [], template="plain"))

    assert schema.names == [field.name for field in dataclasses.fields(TraceRow)]
    assert schema.field("token_ids").type == pa.list_(pa.int32())
    assert schema.field("rollout_logprobs").type == pa.list_(pa.float32())
    nullable = ["reward", "error", "advantage", "sample_s", "score_s"]
    assert [name for name in schema.names if schema.field(name).nullable] == nullable
    assert read_traces(tmp_path, 1) == []


def test_the_summary_leaves_out_what_could_not_be_judged(tmp_path: Path):
    group = scored_group(
        ["a", "b", "c", "d"],
        [1.0, 0.5, 0.0, None],
        breakdowns=[{"accuracy": 1.0, "format": 1.0}, {"accuracy": 1.0, "format": 0.0}, {"accuracy": 0.0, "format": None}, {}],
        errors=[None, None, None, "accuracy: timed out"],
        finish_reasons=["stop", "length", "length", "length"],
        num_tokens=[1, 2, 3, 10],
    )
    write_traces(tmp_path, 7, [group], template="plain")

    assert summarize(tmp_path, 7) == TraceSummary(
        step=7,
        split="train",
        num_completions=4,
        num_errors=1,
        reward=0.5,  # (1 + 0.5 + 0) / 3
        breakdown={"accuracy": pytest.approx(2 / 3), "format": 0.5},  # (1 + 1 + 0) / 3, (1 + 0) / 2
        completion_tokens=4.0,  # (1 + 2 + 3 + 10) / 4
        truncated_share=0.75,
    )


def test_the_summary_of_an_empty_step_has_no_means(tmp_path: Path):
    write_traces(tmp_path, 7, [], template="plain")

    summary = summarize(tmp_path, 7)

    assert (summary.num_completions, summary.reward, summary.completion_tokens, summary.breakdown) == (0, None, None, {})


def test_a_missing_run_is_an_error_of_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"run folder '.*nowhere' does not exist; give the folder") as caught:
        read_traces(tmp_path / "nowhere", 1)
    assert "\n" not in str(caught.value)


def test_a_missing_step_is_answered_with_the_steps_that_exist(tmp_path: Path):
    for step in (1, 2, 3, 5):
        write_traces(tmp_path, step, [], template="plain")

    with pytest.raises(UserError, match=r"no train traces of step 9 .*steps with traces: 1-3, 5$"):
        read_traces(tmp_path, 9)
    with pytest.raises(UserError, match=r"no heldout traces of step 9 .*none of this kind yet"):
        summarize(tmp_path, 9, "heldout")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    write_traces(tmp_path, 1, [scored_group(["old"], [0.0])], template="plain")
    too_few_advantages = dataclasses.replace(scored_group(["a", "b"], [0.0, 0.0]), advantages=(0.0,))

    with pytest.raises(ValueError, match="zip"):
        write_traces(tmp_path, 1, [too_few_advantages], template="plain")
    with suppress(OSError), atomic_file(tmp_path / "traces" / "step-000001.parquet") as temporary:
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    assert [row.completion for row in read_traces(tmp_path, 1)] == ["old"]
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["step-000001.parquet"]


def test_readers_never_see_an_unfinished_file(tmp_path: Path):
    path = tmp_path / "traces" / "step-000001.parquet"
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        assert list_trace_files(tmp_path, "train") == {}
        assert temporary.name.startswith(".")  # pyarrow and pandas skip such files when they are given the folder
        assert temporary.parent == path.parent  # os.replace is atomic only within one file system

    assert list_trace_files(tmp_path, "train") == {1: path}


def test_a_damaged_file_and_a_file_of_the_future_are_explained(tmp_path: Path):
    path = write_traces(tmp_path, 1, [scored_group(["a"], [0.0])], template="plain")
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "schema_version", pa.array([3], pa.int32())), path)
    with pytest.raises(UserError, match="has schema version 3, this r1 reads 1 to 2"):
        read_traces(tmp_path, 1)

    path.write_bytes(b"not parquet at all")
    with pytest.raises(UserError, match="is damaged"):
        read_traces(tmp_path, 1)


def test_every_damaged_bit_of_a_page_is_found_and_files_without_checksums_are_read(tmp_path: Path):
    path = write_traces(tmp_path, 1, [scored_group(["a" * 50, "b"], [0.25, 1.0], num_tokens=[90, 9])], template="plain")
    table, rows, whole = pq.read_table(path), read_traces(tmp_path, 1), path.read_bytes()
    columns = pq.read_metadata(path).row_group(0)
    for column in map(columns.column, range(columns.num_columns)):
        # The last byte of a column's last page: a value, or what is compressed of it.
        place = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"step-000001.parquet' is damaged \(.*; remove it"):
            read_traces(tmp_path, 1)

    pq.write_table(table, path)  # as earlier versions did
    assert read_traces(tmp_path, 1) == rows


def test_a_run_folder_with_an_equals_sign_adds_no_column(tmp_path: Path):
    run_dir = tmp_path / "seed=3"
    write_traces(run_dir, 1, [scored_group(["a"], [0.0])], template="plain")

    assert len(read_traces(run_dir, 1)) == 1
