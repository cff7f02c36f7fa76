import pytest

from rewards.language_consistency import SCRIPTS, language_consistency

CASES = [
    ("en", "so two and two is four", 1.0, "English"),
    ("en", "so 7 + 5 = 12, then 12 - 3 = 9", 1.0, "numbers and signs do not count: so, then"),
    ("en", "first 我们 add", 0.5, "first, add against two characters"),
    ("en", "我们先加", 0.0, "Chinese"),
    ("en", "the sum сумма", 2 / 3, "one of three words is Russian"),
    ("en", "cafés naïve", 1.0, "accents are Latin"),
    ("en", "let α + β = π where x is y", 1.0, "single letters are names: let, where, is"),
    ("en", "αβγ is", 0.5, "a Greek word is a word"),
    ("en", "so $x = 我们$", 1 / 3, "a formula hides no other script: so against two characters"),
    ("en", "`我们` code", 1 / 3, "nor does code"),
    ("en", "is \u0441\u043e x", 0.5, "Cyrillic letters that look Latin"),
    ("en", "ｓｏ 𝐭𝐰𝐨", 1.0, "full-width and mathematical letters are Latin"),
    ("en", "it costs $5 и $6", 2 / 3, "it, costs, и: two prices make a span, and и counts in it"),
    ("fr", "alors deux et deux font quatre", 1.0, "French"),
    ("fr", "so two and two is four", 1.0, "what it cannot tell: English passes for French"),
    ("zh", "我们先算", 1.0, "Chinese"),
    ("zh", "我们 compute 和", 0.75, "three characters against one word"),
    ("zh", "设 $x = \\text{speed}$, 则 \\( \\sin y \\) 为 `print(total)`", 1.0, "formulas and code are neutral"),
    ("zh", "则 \\frac{1}{2} 为 x", 1.0, "a command outside of a formula, and a variable"),
    ("zh", "则\n```\nfor item in items: pass\n```\n止", 1.0, "a block of code"),
    ("zh", "价 $5 and no end", 0.25, "a price opens no formula: 价 against and, no, end"),
    ("zh", "价 `then\nnext` 止", 0.5, "a backtick closes on its line: 价 止 against then, next"),
    ("zh", "价 $" + "word " * 300 + "$", 1 / 301, "1500 characters are no formula"),
    ("zh", "ひらがな", 0.0, "kana is not Chinese"),
    ("ja", "私はデータを見る", 1.0, "ideographs and both kana"),
    ("ja", "コーヒー人々", 1.0, "the marks of lengthening and repetition"),
    ("ja", "我们先算", 1.0, "what it cannot tell: Chinese passes for Japanese"),
    ("ko", "먼저 더한다", 1.0, "Korean"),
    ("ko", "먼저 add", 0.5, "a word each"),
    ("ru", "сначала сложим числа", 1.0, "Russian"),
    ("ru", "сначала add числа", 2 / 3, "one English word"),
    ("ar", "أولا نجمع", 1.0, "Arabic"),
    ("el", "πρώτα προσθέτουμε", 1.0, "Greek"),
    ("hi", "पहले जोड़ें", 1.0, "Hindi: vowel signs do not cut words"),
    ("hi", "जोड़ें add", 0.5, "a word each, whatever its vowel signs"),
    ("th", "ก่อนอื่น", 1.0, "Thai"),
    ("en", "", 0.0, "an empty thinking is not paid"),
    ("en", "12 + 5 = 17", 0.0, "nor one without a word"),
    ("zh", "$x$", 0.0, "nor one formula"),
]


@pytest.mark.parametrize(("language", "thought", "expected", "why"), CASES, ids=[why for *_, why in CASES])
def test_language_consistency(language, thought, expected, why):
    completion = f"<think>{thought}</think><answer>words 字</answer>"
    assert language_consistency(completion, {"language": language}) == pytest.approx(expected), why


WHOLE = [
    ("so 我</think><answer>字</answer>", 0.5, "a prefill that was cut off: up to </think>"),
    ("<think>so 我", 0.5, "never closed: all of it"),
    ("so 我<answer>字</answer>", 0.5, "no thinking tags: up to the answer"),
    ("so 我", 0.5, "no tags at all"),
    ("我 <think>so</think> 我", 1.0, "before and after the thinking does not count"),
    ("<think>so</think><think>我</think>", 0.5, "up to the last </think>; tags are no words"),
]


@pytest.mark.parametrize(("completion", "expected", "why"), WHOLE, ids=[why for *_, why in WHOLE])
def test_where_the_thinking_is(completion, expected, why):
    assert language_consistency(completion, {}) == pytest.approx(expected), why


def test_english_is_the_default_and_an_unknown_language_is_named():
    assert language_consistency("<think>so</think>", {}) == 1.0
    with pytest.raises(ValueError, match=r"no language 'klingon'; choose one of ar, bg, bn"):
        language_consistency("<think>so</think>", {"language": "klingon"})
    assert all(len(language) == 2 for language in SCRIPTS)
