"""MODEL or RUN: which weights an evaluation loads, and the configuration of the run that they are of."""

import json
from pathlib import Path

from r1.checkpoint import best_checkpoint, complete_checkpoints
from r1.config import RunConfig, check_config
from r1.errors import UserError
from r1.metrics import heldout_accuracy


def find_model(model: str, checkpoint: str | None = None) -> tuple[str, RunConfig | None]:
    """Return what is loaded, and of a run folder its configuration.

    checkpoint: latest (the default), best (by held-out accuracy, while training), or the name of its folder, step-000020.
    """
    folder = Path(model)
    tree = _run_config(folder)
    if tree is None:
        if checkpoint is not None:
            raise UserError(f"option '--checkpoint': {model!r} is no run folder but a model; leave it out, got {checkpoint!r}")
        return model, None
    steps = complete_checkpoints(folder)
    if not steps:
        raise UserError(f"{model!r} is a run without a complete checkpoint; set checkpoint.every in the run, or give a model")
    names = {path.name: path for path in steps.values()}
    if checkpoint == "best":
        chosen = best_checkpoint(steps, heldout_accuracy(folder))
        if chosen is None:
            raise UserError(
                f"option '--checkpoint': no checkpoint of {model!r} has a held-out accuracy; set evaluate.every in the run, or "
                f"choose one of latest, {', '.join(names)}"
            )
    elif checkpoint in (None, "latest"):
        chosen = steps[max(steps)]
    elif checkpoint in names:
        chosen = names[checkpoint]
    else:
        raise UserError(f"option '--checkpoint': no {checkpoint!r} in {model!r}; choose one of latest, best, {', '.join(names)}")
    return str(chosen / "hf"), check_config(tree)


def _run_config(folder: Path) -> dict[str, object] | None:
    """The configuration of a run folder; None where the folder is none: a model's config.json has other keys."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # of a model: transformers is going to say what is wrong with it
        return None
    return tree if isinstance(tree, dict) and {"rollout", "learner"} <= tree.keys() else None
