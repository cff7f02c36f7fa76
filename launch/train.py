"""Train: `python -m launch.train CONFIG.toml [section.option=value ...]` or `python -m launch.train --resume RUN`.

With --dry-run it says what it would do instead.
"""

import argparse
import sys

from r1.cli.printing import printable_line
from r1.config import RunConfig, load_config
from r1.config_text import saved_config
from r1.errors import RunError, UserError
from r1.run_place import folder_to_resume, storage_of


def main() -> int:
    """Exit codes: 0 trained, 1 the run failed, 2 the configuration cannot work, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m launch.train", description="Train a model with GRPO.")
    parser.add_argument("config", nargs="?", help="a .toml file, e.g. launch/configs/quickstart.toml")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.option=value", help="e.g. num_steps=10 learner.learning_rate=1e-4"
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="go on in this run (folder or URL) from its last checkpoint, with its configuration"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the configuration, print what the run would do and need, and start nothing"
    )
    arguments = parser.parse_intermixed_args()
    try:
        if arguments.dry_run and arguments.resume:
            raise UserError(
                "option '--dry-run' is for a new run, a resumed one goes on as it was; leave out --resume, or look at its "
                f"options with: r1 config show {arguments.resume}"
            )
        config = _configuration(arguments.config, arguments.overrides, arguments.resume)
        if arguments.dry_run:
            from r1.dry_run import dry_run

            print("\n".join(dry_run(config)))
            return 0
        storage_of(config, arguments.resume)  # storage that cannot be reached is said before the seconds of the next line
        from r1.runtime.run import run  # imports torch, transformers and ray: only once the configuration has been read

        run(config, resume=arguments.resume)
    except UserError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
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
    return saved_config(folder_to_resume(resume), overrides, option="--resume")


if __name__ == "__main__":
    sys.exit(main())
