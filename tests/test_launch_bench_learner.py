import re

import pytest
from tiny import MODEL, load_tiny_model

from launch import bench_learner
from launch.learner_speed import model_flops


def test_the_flops_are_those_counted_by_hand():
    model = load_tiny_model()
    config = model.config
    # The counts below are for this shape: 3 layers, hidden 128, 4 heads of 32, tied head.
    shape = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.num_key_value_heads)
    assert (*shape, config.intermediate_size, config.vocab_size) == (3, 128, 4, 4, 352, 54)
    # A layer: q, k, v, o of 128 x 128 = 65,536; gate, up, down of 128 x 352 = 135,168; three layers: 602,112.
    # Head: 54 x 128 = 6,912. Rows of 3 and 2 tokens: 5 tokens; pairs 3 + 2 + 1 + 2 + 1 = 9; 4 tokens count in the loss.
    # 6 x 602,112 x 5 = 18,063,360; 6 x 6,912 x 4 = 165,888; 12 x 3 x 128 x 9 = 41,472; together 18,270,720.
    assert model_flops(model, [3, 2], 4) == 18_270_720


def test_the_command_prints_its_lines(capsys, monkeypatch):
    monkeypatch.setattr("launch.learner_speed.PEAK_SECONDS", 0.0)
    options = "--rows 2 --prompt-tokens 4 --completion-tokens 8 --threads 1 --repeats 1"
    monkeypatch.setattr("sys.argv", ["bench_learner", "--model", str(MODEL), *options.split()])
    monkeypatch.setattr("os.environ", {})  # main sets the learner's
    bench_learner.main()
    shown = capsys.readouterr().out
    shares = re.findall(r"^(.+?)  +[\d.]+ s +([\d.]+)%$", shown, re.MULTILINE)
    assert [part for part, _ in shares] == [
        "forward: body",
        "forward: log-probabilities",
        "loss + backward",
        "clip + optimizer step",
        "publish weights",
    ]
    assert sum(float(share) for _, share in shares) == pytest.approx(100, abs=0.3)
    for name in ("completion tokens/s", "matmul peak, measured", "model FLOPs utilisation", "at the peak"):
        assert float(re.search(rf"^{name} +([\d.]+)", shown, re.MULTILINE)[1]) > 0, name


def test_a_missing_model_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench_learner", "--model", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        bench_learner.main()
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr("sys.argv", ["bench_learner", "--rows", "0"])
    with pytest.raises(SystemExit, match="2"):
        bench_learner.main()
    assert "--rows must be at least 1" in capsys.readouterr().err
