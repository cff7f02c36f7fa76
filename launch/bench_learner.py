"""Measure the learner on this machine: python -m launch.bench_learner [--model FOLDER] [--rows 16] [--dtype bfloat16] ...

One update is one micro-batch of random tokens, all rows as long: how long does each part take, how many completion tokens
is that a second, and which share of the machine's matrix-product peak is it (model FLOPs utilisation)? The peak is measured
in the same run, with this model's shapes, before and after. The fastest of the repeats counts. docs/performance.md reads it.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from r1.runtime.cluster import environment

DEFAULT_MODEL = Path("models/SmolLM2-135M-Instruct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help=f"a model's folder (default: {DEFAULT_MODEL})")
    parser.add_argument("--rows", type=int, default=16, help="completions in the update (default: 16)")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--completion-tokens", type=int, default=128)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="what the learner computes with")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--repeats", type=int, default=3, help="timed updates, after one that is not timed (default: 3)")
    options = parser.parse_args()
    numbers = ("rows", "prompt_tokens", "completion_tokens", "threads", "repeats")
    if wrong := [name for name in numbers if getattr(options, name) < 1]:
        parser.error(f"--{wrong[0].replace('_', '-')} must be at least 1")
    if not (options.model / "config.json").is_file():
        print(f"error: no model in {options.model}; `python -m launch.get_smollm2` fetches {DEFAULT_MODEL}", file=sys.stderr)
        sys.exit(2)
    # As in a run, and before torch is imported: its thread and memory settings are read then.
    os.environ.update(environment(options.threads)["env_vars"])
    run(options)


def run(options: argparse.Namespace) -> None:
    """Measure, and print the table."""
    import torch

    from launch.learner_speed import PARTS, matmul_peak, measure_update, model_flops, random_minibatch
    from r1.config import load_config
    from r1.learner import Learner

    torch.set_num_threads(options.threads)
    quickstart = Path(__file__).parent / "configs/quickstart.toml"
    config = load_config(quickstart, [f"model.path={options.model}", f"dtype={options.dtype}"])
    length = options.prompt_tokens + options.completion_tokens - 1
    with tempfile.TemporaryDirectory() as folder:
        learner = Learner(config, f"{folder}/weights")
        try:
            vocabulary = learner.model.config.get_text_config().vocab_size
            minibatch = random_minibatch(
                vocabulary, options.rows, options.prompt_tokens, options.completion_tokens, options.rows * length
            )
            dtype = getattr(torch, options.dtype)
            peak = matmul_peak(learner.model, options.rows * length, dtype)
            measured = [measure_update(learner, minibatch) for _ in range(1 + options.repeats)][1:]
            peak = max(peak, matmul_peak(learner.model, options.rows * length, dtype))
        finally:
            learner.close()
    fastest = min(measured, key=lambda seconds: sum(seconds.values()))
    total = sum(fastest.values())
    num_loss_tokens = options.rows * options.completion_tokens
    flops = model_flops(learner.model, [length] * options.rows, num_loss_tokens)
    device = torch.cuda.get_device_name() if learner.device.type == "cuda" else f"CPU, {options.threads} threads"
    print(f"{options.model.name}, {options.dtype}, {device}, {learner.model.config._attn_implementation} attention")
    print(f"{options.rows} rows of {options.prompt_tokens} prompt and {options.completion_tokens} completion tokens\n")
    for part in PARTS:
        print(f"{part:34}{fastest[part]:9.4f} s{fastest[part] / total:8.1%}")
    print(f"{'all':34}{total:9.4f} s  (slowest of {options.repeats}: {max(sum(m.values()) for m in measured):.4f} s)\n")
    print(f"completion tokens/s     {num_loss_tokens / total:.1f}")
    print(f"model FLOPs             {flops:.4g} = 6 N_body tokens + 6 N_head loss tokens + 12 L D pairs of attention")
    print(f"matmul peak, measured   {peak / 1e9:.1f} GFLOP/s")
    print(f"model FLOPs utilisation {flops / total / peak:.1%}")
    print(f"at the peak             {num_loss_tokens * peak / flops:.1f} completion tokens/s")


if __name__ == "__main__":
    main()
