"""A model's configuration and tokenizer, from its folder or its name on the hub."""

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
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"option '{option}': {path!r} has no config.json; give a folder with Hugging Face files")
        if not any(folder.glob("*.safetensors")):
            raise UserError(
                f"option '{option}': {path!r} has no weights (*.safetensors); save the model there with save_pretrained"
            )
    elif folder.exists() or path.startswith((".", "/", "~", "models/")) or path.count("/") > 1:
        fetch = ", or fetch it: python -m launch.get_smollm2" if "SmolLM2" in path else ""
        raise UserError(
            f"option '{option}': {path!r} is not a folder; give a folder with Hugging Face files or a hub name{fetch}"
        )
    else:
        unreachable = use_hub()
    try:
        return AutoConfig.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    except Exception as error:  # transformers passes on whatever its parsers meet in a broken file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"{unreachable}, and it is not in the cache" if unreachable else lines[0]
        raise UserError(
            f"option '{option}': cannot load {path!r} ({reason}); give a folder with Hugging Face files or a hub name"
        ) from error
