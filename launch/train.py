"""Train: `python -m launch.train CONFIG.toml [section.option=value ...]` or `python -m launch.train --resume RUN`."""

import argparse
import json
import sys
from pathlib import Path

from r1.config import RunConfig, apply_overrides, check_config, load_config
from r1.errors import RunError, UserError


def main() -> int:
    """Exit codes: 0 trained, 1 the run failed, 2 the configuration cannot work, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m launch.train", description="Train a model with GRPO.")
    parser.add_argument("config", nargs="?", help="a .toml file, e.g. launch/configs/quickstart.toml")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.option=value", help="e.g. num_steps=10 learner.learning_rate=1e-4"
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="go on in this run folder from its last checkpoint, with its configuration"
    )
    arguments = parser.parse_args()
    try:
        config = _configuration(arguments.config, arguments.overrides, arguments.resume)
        from r1.runtime.run import run  # imports torch, transformers and ray: only once the configuration has been read

        run(config, resume=arguments.resume)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; go on from the last checkpoint with --resume RUN", file=sys.stderr)
        return 130
    return 0


def _configuration(path: str | None, overrides: list[str], resume: str | None) -> RunConfig:
    if resume is None:
        if path is None:
            raise UserError("no configuration given: python -m launch.train launch/configs/quickstart.toml")
        return load_config(path, overrides)
    if path is not None:
        overrides = [path, *overrides]
    saved = Path(resume) / "config.json"
    if not saved.is_file():
        raise UserError(f"option '--resume': {resume!r} is not a run folder, it has no config.json")
    try:
        tree = json.loads(saved.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"option '--resume': {str(saved)!r} is damaged: {error}") from error
    return check_config(apply_overrides(tree, overrides))


if __name__ == "__main__":
    sys.exit(main())
