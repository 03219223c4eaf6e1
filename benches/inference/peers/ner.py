"""What the peers have in common: texts in, entities out, with as little work around the model as we know how.

The tokenizer is used directly, without `transformers`, which would cost each server some hundred megabytes and seconds of
its start, and about a millisecond a text.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Encoding, Tokenizer


class Ner:
    """A model directory that `examples/export` wrote; `threads` of torch, its own default without."""

    def __init__(self, directory: Path, threads: int | None = None):
        if threads:
            torch.set_num_threads(threads)
        self.model = torch.jit.load(directory / "model.pt").eval()
        config = json.loads((directory / "config.json").read_text())
        self.labels = [config["id2label"][str(number)] for number in range(len(config["id2label"]))]
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.enable_truncation(config["max_position_embeddings"])
        self.tokenizer.enable_padding(pad_id=config["pad_token_id"])
        # The first two forwards are several times slower than later ones.
        for _ in range(2):
            self(["warm", "up"])

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> list[list[dict]]:
        encodings = self.tokenizer.encode_batch(texts)
        columns = ([encoding.ids for encoding in encodings],
                   [encoding.attention_mask for encoding in encodings],
                   [encoding.type_ids for encoding in encodings])
        scores, best = self.model(*map(torch.tensor, columns)).softmax(-1).max(-1)
        rows = zip(texts, encodings, scores.tolist(), best.tolist())
        return [self.entities(*row) for row in rows]

    def entities(self, text: str, encoding: Encoding, scores: list[float], best: list[int]) -> list[dict]:
        """The strategy `first` of transformers: a word has the label of its first token, and neighbours of one label are one entity."""
        words, last = [], None
        for word, (start, end), score, label in zip(encoding.word_ids, encoding.offsets, scores, best):
            if word is not None and word == last:
                words[-1]["end"] = end
            elif word is not None:
                words.append({"label": self.labels[label], "score": score, "start": start, "end": end})
            last = word
        groups: list[list[dict]] = []
        tag = None
        for word in words:
            begins, _, own = word["label"].rpartition("-")
            if groups and own == tag and begins != "B":
                groups[-1].append(word)
            else:
                groups.append([word])
            tag = own
        return [
            {
                "entity_group": group[0]["label"].rpartition("-")[2],
                "score": sum(word["score"] for word in group) / len(group),
                "word": text[group[0]["start"] : group[-1]["end"]],
                "start": group[0]["start"],
                "end": group[-1]["end"],
            }
            for group in groups
            if group[0]["label"] != "O"
        ]
