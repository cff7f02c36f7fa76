"""A model's configuration and tokenizer, from its folder or its name on the hub."""

import os
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from r1.errors import UserError
from tasks.hub import use_hub


def open_model(path: str, option: str = "model.path") -> tuple[Any, Any]:
    """Return the configuration and the tokenizer; raises `UserError` for what cannot be a model. No weights are read.

    option: what the path was given as, for errors.
    """
    folder, unreachable = Path(path), None
    if os.path.isdir(path):  # Path.is_dir() raises for a folder that may not be looked into
        if not (folder / "config.json").is_file():
            raise UserError(f"option '{option}': {path!r} has no config.json; give a folder with Hugging Face files")
        if not any(folder.glob("*.safetensors")):
            pickled = [file.name for suffix in ("bin", "pt", "pth") for file in folder.glob(f"*.{suffix}")]
            but = f" but {pickled[0]}, and a pickle may run code when it is read" if pickled else ""
            raise UserError(
                f"option '{option}': {path!r} has no weights (*.safetensors){but}; save the model there with save_pretrained"
            )
    elif os.path.exists(path) or path.startswith((".", "/", "~", "models/")) or path.count("/") > 1:
        fetch = ", or fetch it: python -m launch.get_smollm2" if "SmolLM2" in path else ""
        raise UserError(
            f"option '{option}': {path!r} is not a folder; give a folder with Hugging Face files or a hub name{fetch}"
        )
    else:
        unreachable = use_hub()
    try:
        # Said each time: by default transformers asks at the terminal whether to run a repository's code.
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        return config, AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # transformers passes on whatever its parsers meet in a broken file
        if "trust_remote_code" in str(error):
            raise UserError(
                f"option '{option}': {path!r} can only be loaded with code of its own, and r1 runs no code of model "
                "repositories (docs/security.md); choose a model of a family that transformers has"
            ) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"{unreachable}, and it is not in the cache" if unreachable else lines[0]
        raise UserError(
            f"option '{option}': cannot load {path!r} ({reason}); give a folder with Hugging Face files or a hub name"
        ) from error
