import math
from dataclasses import replace

import pytest
from browsing import byte_tokenizer, save_tokenizer, with_tokens
from rich.cells import cell_len
from rich.style import Style
from scored_groups import scored_group
from tokenizers import Tokenizer, decoders, models

from r1.browse.colours import COLOURINGS, Painter, Scale, coloured_spans
from r1.browse.document import Document, Span, answer_parts, shown_text, wrap
from r1.browse.lines import StepKey
from r1.browse.matching import found_at
from r1.browse.reader import RunReader
from r1.browse.tokens import MAX_UNDECODED, TokenSpan, load_tokenizer, token_spans
from r1.errors import UserError
from r1.traces import write_traces

TRAIN_1 = StepKey(1, False)


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 5, [""]),
        ("one two three", 7, ["one two", "three"]),
        ("one two three", 8, ["one two", "three"]),
        ("abcdefgh ij", 4, ["abcd", "efgh", "ij"]),
        ("a\n\nb\n", 5, ["a", "", "b", ""]),
        ("漢字かな", 5, ["漢字", "かな"]),  # two cells each
        ("e\u0301" * 4, 3, ["e\u0301" * 3, "e\u0301"]),  # an accent has none
        ("aa  bb", 2, ["aa", "", "bb"]),
        ("\u26a0\ufe0f" * 3, 4, ["\u26a0\ufe0f" * 2, "\u26a0\ufe0f"]),  # a narrow symbol that U+FE0F makes wide
        ("x\u2764\ufe0fy", 2, ["x", "\u2764\ufe0f", "y"]),  # not between the heart and its sign
        ("1\ufe0f\u20e3 2\ufe0f\u20e3 3", 5, ["1\ufe0f\u20e3 2\ufe0f\u20e3", "3"]),
    ],
)
def test_text_is_folded_at_spaces_and_by_cells(text, width, lines):
    assert [text[start:end] for start, end in wrap(text, width)] == lines


@pytest.mark.parametrize(
    "text",
    ["The 漢字 quick brown fox " * 50 + "x" * 200, *(f"{emoji}w " * 60 + emoji * 30 for emoji in ("\u26a0\ufe0f", "1\ufe0f\u20e3"))],
)
def test_no_character_is_lost_by_folding(text):
    folded = wrap(text, 17)
    assert "".join(text[start:end] for start, end in folded).replace(" ", "") == text.replace(" ", "")
    assert max(cell_len(text[start:end]) for start, end in folded) <= 17


def test_marks_move_with_the_characters_that_became_printable():
    document = Document()
    document.add("before\n")
    document.add("\x1b[31m[red]\u202ehot\t!", spans=[Span(1, 2, "on #111111"), Span(12, 13, "on #222222")], pattern="hot")
    assert document.text == "before\n\\x1b[31m[red]\\u202ehot    !"
    colours, found = document.layers[1], document.layers[2]
    assert [document.text[span.start : span.end] for span in colours] == ["[", "o"]
    assert [document.text[span.start : span.end] for span in found] == ["hot"]


def test_the_quick_way_is_taken_only_where_nothing_changes():
    assert shown_text("plain é 漢 🙂\nline") == ("plain é 漢 🙂\nline", None)
    assert shown_text("\u00a0") == ("\u00a0", None)
    assert shown_text("a\r")[0] == "a\\r"
    assert shown_text("a\u3164b") == ("a\\u3164b", [0, 1, 7, 8])
    assert shown_text("\u26a0\ufe0f") == ("\u26a0\ufe0f", None)


def test_thinking_answer_and_prefill():
    whole = "<think>so 19.</think><answer>19</answer>"
    parts = answer_parts("<think>", whole.removeprefix("<think>"))
    assert [(whole[part.start : part.end], part.style) for part in parts] == [
        ("<think>", "underline"),
        ("so 19.", "cyan"),
        ("19", "bold green"),
    ]


def test_an_answer_in_thinking_that_is_never_closed():
    whole = "<think>easy<answer>802</answer>?"
    parts = answer_parts("", whole)
    assert [(whole[part.start : part.end], part.style) for part in parts] == [
        ("easy<answer>", "cyan"),
        ("802", "bold green"),
        ("</answer>?", "cyan"),
    ]


def test_matches_are_found_as_grep_finds_them():
    assert found_at("ab ab", "^ab") == [(0, 2)]
    assert found_at("aXbXc", "x") == []
    assert found_at("漢漢 \ue000 漢", "漢") == [(0, 1), (1, 2), (5, 6)]
    assert found_at("abc", "z*") == []  # empty matches are nothing to show
    assert found_at("aaab", "a+") == [(0, 3)]


def test_a_character_of_several_tokens_belongs_to_all_of_them():
    text = "a漢b"  # 漢 has three bytes, and so three tokens here
    assert token_spans(byte_tokenizer(), list(text.encode()), text) == [
        TokenSpan(0, 1, 0, 0),
        TokenSpan(1, 2, 1, 3),
        TokenSpan(2, 3, 4, 4),
    ]


def test_tokens_behind_the_stored_text_are_left_out():
    # As after a stop text or an end-of-sequence token; the second token is cut in the middle.
    assert token_spans(byte_tokenizer(), list(b"ab</x"), "ab") == [TokenSpan(0, 1, 0, 0), TokenSpan(1, 2, 1, 1)]


def test_a_completion_may_end_in_the_middle_of_a_character():
    ids = list("a漢".encode())[:-1]
    text = byte_tokenizer().decode(ids)
    assert text == "a\ufffd"
    assert token_spans(byte_tokenizer(), ids, text) == [TokenSpan(0, 1, 0, 0), TokenSpan(1, 2, 1, 2)]


def test_bytes_that_are_no_text_stay_together():
    ids = [ord("a"), 0xFF, 0xFE, ord("b")]
    text = byte_tokenizer().decode(ids)
    assert token_spans(byte_tokenizer(), ids, text) == [TokenSpan(0, 1, 0, 0), TokenSpan(1, 4, 1, 3)]
    with pytest.raises(UserError, match="are no text"):
        token_spans(byte_tokenizer(), [0xFF] * (MAX_UNDECODED + 3), "\ufffd" * (MAX_UNDECODED + 3))


def test_a_first_word_that_loses_its_space_stays_aligned():
    # SentencePiece: the space in front of the first word goes, those in front of others stay.
    tokenizer = Tokenizer(models.WordLevel({"▁one": 0, "▁two": 1, "s": 2}, unk_token="s"))
    tokenizer.decoder = decoders.Metaspace()
    assert token_spans(tokenizer, [0, 2, 1], "ones two") == [TokenSpan(0, 3, 0, 0), TokenSpan(3, 4, 1, 1), TokenSpan(4, 8, 2, 2)]


@pytest.mark.parametrize(("ids", "text"), [(b"abc", "abd"), (b"abc", "abcd"), (b"", "a")])
def test_tokens_of_another_tokenizer_are_refused(ids, text):
    with pytest.raises(UserError, match="tokenizer decodes"):
        token_spans(byte_tokenizer(), list(ids), text)


def test_the_tokenizer_is_the_models_else_a_checkpoints(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    save_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path).get_vocab_size() == 256
    kept = tmp_path / "checkpoints/step-000003/hf"
    kept.mkdir(parents=True)
    (tmp_path / "the-model/tokenizer.json").rename(kept / "tokenizer.json")
    assert load_tokenizer(tmp_path).get_vocab_size() == 256
    (kept / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("config", ["{", "[]", '{"name": "x"}', '{"model": {}}', '{"model": {"path": null}}', '{"model": "x"}'])
def test_a_configuration_without_a_model_is_no_reason_to_end(tmp_path, config):
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(UserError, match=r"no tokenizer\.json: .*config.json' is damaged: "):
        load_tokenizer(tmp_path)
    (tmp_path / "checkpoints/step-000003/hf").mkdir(parents=True)
    byte_tokenizer().save(str(tmp_path / "checkpoints/step-000003/hf/tokenizer.json"))
    assert load_tokenizer(tmp_path).get_vocab_size() == 256


def painted(run_dir, colouring, sample=0):
    reader = RunReader(run_dir)
    group = reader.step(TRAIN_1).groups[0]
    row = reader.group(TRAIN_1, group)[(0, sample)]
    spans, scale = Painter(run_dir).paint(colouring, group, row)
    return [(row.completion[span.start : span.end], span.style) for span in spans], scale


def test_colours_line_up_with_the_characters(tmp_path):
    save_tokenizer(tmp_path)
    text = "a漢b!"
    # The three bytes of 漢: the largest counts. The scale ends at the largest of all, 3.0; "!" is half of it.
    group = with_tokens(scored_group([text], [1.0]), entropies=[[0.0, 0.1, 3.0, 0.2, 0.0, 1.5]])
    write_traces(tmp_path, 1, [group], template="plain")
    spans, scale = painted(tmp_path, "entropy")
    assert [part for part, _ in spans] == ["漢", "!"]
    assert spans[0][1] == "#000000 on #ffd75f"  # the last step
    assert spans[1][1] == "on #af005f"  # the fourth of seven
    assert scale.legend().plain == "entropy of the policy  0.00 " + "  " * 7 + " 3.00 nats"


def test_the_end_of_sequence_does_not_set_the_scale(tmp_path):
    save_tokenizer(tmp_path)
    group = with_tokens(scored_group(["abc"], [1.0]), entropies=[[0.5, 1.0, 8.0]])
    # The last token is stored, but not in the text.
    shorter = replace(group, completions=(replace(group.completions[0], text="ab"),))
    write_traces(tmp_path, 1, [shorter], template="plain")
    spans, scale = painted(tmp_path, "entropy")
    assert scale.notable == 1.0
    assert [part for part, _ in spans] == ["a", "b"]


def test_each_colouring_has_its_values_and_scale(tmp_path):
    save_tokenizer(tmp_path)
    group = with_tokens(scored_group(["ab", "cd"], [1.0, 0.0], advantages=[0.5, -1.0]))
    write_traces(tmp_path, 1, [group], template="plain")
    # |old - rollout| = |-0.75 + 0.5| everywhere: all of them the largest
    spans, scale = painted(tmp_path, "mismatch")
    assert spans == [("ab", "#000000 on #ffd75f")]
    assert scale.notable == pytest.approx(0.25)
    # exp(-0.5) = 0.607: 0.393 of the way from 1 to 0, of six steps the 2.36th
    spans, scale = painted(tmp_path, "probability")
    assert spans == [("ab", "on #87005f")]
    # The scale is the group's: 0.5 is half of the largest, 1.0
    spans, scale = painted(tmp_path, "advantage")
    assert spans == [("ab", "on #0000af")]
    assert painted(tmp_path, "advantage", sample=1)[0] == [("cd", "on #d70000")]
    assert scale.legend().plain.startswith("advantage, of every token  -1.00 ")


def test_what_cannot_be_coloured_says_why(tmp_path):
    save_tokenizer(tmp_path)
    write_traces(tmp_path, 1, [scored_group(["ab"], [1.0])], template="plain")  # no values of the learner
    write_traces(tmp_path, 1, [scored_group(["ab"], [1.0])], template="plain", split="heldout")
    with pytest.raises(UserError, match="no entropies stored: an older run, or one that keeps text alone"):
        painted(tmp_path, "entropy")
    with pytest.raises(UserError, match="tokenizer decodes"):  # tokens 0 and 1 are not "ab"
        painted(tmp_path, "probability")
    reader = RunReader(tmp_path)
    heldout = StepKey(1, True)
    group = reader.step(heldout).groups[0]
    row = reader.group(heldout, group)[(0, 0)]
    for colouring, reason in [("advantage", "held out"), ("mismatch", "no old_logprobs stored: it is held out")]:
        with pytest.raises(UserError, match=reason):
            Painter(tmp_path).paint(colouring, group, row)


def test_values_that_are_not_finite_stay_uncoloured():
    scale = Scale(title="x", plain=0.0, notable=1.0, unit="")
    tokens = [TokenSpan(0, 1, 0, 0), TokenSpan(1, 2, 1, 2)]
    assert scale.style(math.nan) == scale.style(math.inf) == ""
    assert coloured_spans(tokens, [math.nan, math.nan, 1.0], scale) == [Span(1, 2, "#000000 on #ffd75f")]
    flat = Scale(title="x", plain=0.0, notable=0.0, unit="")
    assert coloured_spans(tokens, [0.0, 0.0, 0.0], flat) == []


def test_every_style_is_one_that_rich_knows():
    assert len(COLOURINGS) == 5
    for value in (-1.0, -0.5, 0.0, 0.3, 0.7, 1.0):
        for is_signed in (False, True):
            Style.parse(Scale(title="x", plain=0.0, notable=1.0, unit="", is_signed=is_signed).style(value))
