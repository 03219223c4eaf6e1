"""A model so small that a server's own cost shows: one layer, 32 wide, random weights from a fixed seed, with the tokenizer of a model
directory that `examples/export` wrote. Writes a Hugging Face directory for `export.py --hf`.

    python tiny.py NER_DIRECTORY OUT
"""

import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

source, out = map(Path, sys.argv[1:])
torch.manual_seed(4)
config = BertConfig.from_pretrained(source)
config.update({"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2})
# Wider than usual, so that the labels of two texts are not all the same.
config.initializer_range = 0.5
BertForTokenClassification(config).save_pretrained(out)
special = {f"{name}_token": f"[{name.upper()}]" for name in ["pad", "unk", "cls", "sep", "mask"]}
names = ["input_ids", "token_type_ids", "attention_mask"]
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=str(source / "tokenizer.json"), model_max_length=config.max_position_embeddings, model_input_names=names, **special
)
tokenizer.save_pretrained(out)
