"""A model that costs nothing to run: the NER model's tokenizer and labels over one narrow BERT layer of random weights.

Why: with it the server's own cost shows, and a test can load a model a thousand times. What it finds in a text is noise, but the same noise
wherever it is made: the weights come from a fixed seed.
"""

from __future__ import annotations

import torch
from transformers import AutoConfig, BertForTokenClassification

import rampart

NAME = "tiny"
VERSION = "1"
LICENSE = rampart.LICENSE
ATTRIBUTION = (
    "Tokenizer and labels of Rampart by National Design Studio, copyright 2026, CC BY 4.0, "
    "https://huggingface.co/nationaldesignstudio/rampart; the weights are random"
)
SEED = 0


def load() -> BertForTokenClassification:
    """The model in fp32, ready for inference: 1 layer, 32 wide."""
    torch.manual_seed(SEED)
    config = AutoConfig.from_pretrained(rampart.directory())
    config.update({"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64})
    config.torch_dtype = torch.float32
    return BertForTokenClassification._from_config(config, attn_implementation="eager").eval()
