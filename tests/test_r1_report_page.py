import json
import re
from pathlib import Path

import pytest
from report_runs import (
    HOSTILE,
    Texts,
    content_of,
    learning_events,
    metric_run,
    step_event,
    write_run,
    write_samples,
)

from r1.errors import UserError
from r1.report.page import report_page


def test_the_options_of_an_older_r1_are_shown_beside_ours(tmp_path: Path):
    run = metric_run(tmp_path, entropy=[1.0])
    tree = json.loads((run / "config.json").read_text())
    tree["algorithm"]["retired"] = 2.0
    (run / "config.json").write_text(json.dumps(tree))
    text = Texts(content_of(run).slots["config"]).text

    assert 'name = "arithmetic"' in text
    assert "# algorithm.retired = 2.0  (an option that this r1 does not know)" in text


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        (None, "the run folder has no config.json"),
        ("{", "config.json is damaged: Expecting property name enclosed in double quotes"),
        ("[]", "config.json is damaged: it is no object"),
        ('{"name": "x"}', "config.json was written by another r1: "),
    ],
)
def test_a_run_without_a_readable_configuration_still_has_its_figures(tmp_path: Path, config, shown):
    run = metric_run(tmp_path, mismatch=[1e-8])
    (run / "config.json").unlink()
    if config is not None:
        (run / "config.json").write_text(config)
    content = content_of(run)

    assert "mismatch" in [figure["key"] for figure in content.figures]
    assert shown in Texts(content.slots["headline"]).text
    assert content.num_steps == 0


def test_hostile_text_stays_text(tmp_path: Path):
    run = write_run(tmp_path / "<b>&lt;i&gt;", [step_event(1, {"reward/<img src=x>": 0.5, "entropy": 1.0})])
    write_samples(run, 1, [HOSTILE, f"<think>{HOSTILE}", f"<answer>{HOSTILE}"], [1.0, 0.5, 0.0], question=HOSTILE, errors=[HOSTILE] * 3)
    page = report_page([run], 6)
    clean = report_page([write_run(tmp_path / "clean", [step_event(1, {"entropy": 1.0})])], 6)

    # No element, attribute or script that a page without this text would not have.
    texts = Texts(page)
    assert {"img", "svg", "a", "title"} & set(texts.names) == {"a", "title"}
    assert texts.names.count("script") == Texts(clean).names.count("script")
    assert not [name for name in texts.attributes if name.startswith("on")]
    assert "javascript:" not in [*re.findall(r'href="([^"]*)"', page)]
    # It is all there, what would hide or reverse as codes: question, answer, thinking, answer, and three errors.
    spelt = r"<script>window.hacked = 1</script></script><!-- <script> --></pre></details></article></style></title></textarea>"
    assert texts.text.count(spelt) == 9
    assert texts.text.count(r"\u2028\u2029\u202e\u2066\x00\x1b[2J😀") == 9
    assert not set("\u2028\u2029\u202e\u2066\x00\x1b") & set(page)


def test_the_figures_data_cannot_end_their_element(tmp_path: Path):
    run = metric_run(tmp_path, **{"reward/</script><script>alert(1)//": [0.5, 0.25]})
    island = re.search(r'<script type="application/json" id="figures">(.*?)</script>', report_page([run], 0))[1]

    assert "<" not in island
    assert json.loads(island)[0]["title"] == "Reward part: </script><script>alert(1)//"


def test_names_are_no_markup_for_plotly_either(tmp_path: Path):
    runs = [metric_run(tmp_path / name, entropy=[1.0]) for name in ("<b>bold<", "b")]

    (entropy, *_) = content_of(*runs).figures

    assert entropy["data"][0]["name"] == "&lt;b&gt;bold&lt;"


def test_the_policy_lets_only_the_pages_own_scripts_run_and_nothing_load(tmp_path: Path):
    import base64
    import hashlib

    page = report_page([metric_run(tmp_path, entropy=[1.0])], 0)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#x27;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts]

    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src {' '.join(hashes)}",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "connect-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert page.index("Content-Security-Policy") < page.index("<script")
    # Nothing outside of plotly.js even names another place.
    assert not re.search(r"https?://", page.replace(scripts[0], ""))


def test_the_contents_name_every_section(tmp_path: Path):
    page = report_page([metric_run(tmp_path, entropy=[1.0])], 0)
    linked = re.findall(r'<a href="#([a-z]+)">', page)

    assert [f'<section id="{name}">' in page for name in linked] == [True] * 10


def test_without_samples_no_completion_is_in_the_page(tmp_path: Path):
    run = write_run(tmp_path, learning_events(1))
    write_samples(run, 1, ["secret"], [1.0])

    assert "secret" in report_page([run], 1)
    assert "secret" not in report_page([run], 0)


def test_folders_that_are_no_runs_are_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    begun = write_run(tmp_path / "begun", [])
    run = metric_run(tmp_path / "run", entropy=[1.0])

    for paths, message in [
        ([tmp_path / "nowhere"], "does not exist"),
        ([tmp_path / "empty"], "has no metrics.jsonl"),
        ([begun], "holds no finished step; make the report after the first one"),
        ([run, run.parent / "run"], "a run is given twice"),
        ([run] * 9, "9 runs are more than 8"),
    ]:
        with pytest.raises(UserError, match=message):
            report_page(paths, 6)


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path):
    run = metric_run(tmp_path, entropy=[1.0, 2.0])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 3, "metr')

    assert content_of(run).last_step == 2
