#!/usr/bin/env python3
"""Writes what Python says: the outputs that the tests of `model-runtime` compare with.

    python expected_outputs.py [--out model-runtime/tests/expected/ner.json]

For the NER model, whose weights are the same everywhere, the file is kept with the tests. For the others `export.py --expected FILE` writes
one at the export: the sentiment model is trained then, and no two machines round alike. Its rows are requests to `/predict` with their answers.

Each text goes through transformers' own token-classification pipeline with each of its five aggregation strategies, on
the untraced model. The texts are chosen where implementations differ: characters of several bytes, emoji of several code
points, combining marks, words split into pieces, words the tokenizer drops, nothing at all, more than fits.
Offsets count characters (code points), as Python's strings do.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BaseImageProcessor, PreTrainedTokenizerFast, pipeline
from transformers.utils import logging as transformers_logging

import photos
import rampart
from packages import ModelNotFound

REPOSITORY = Path(__file__).resolve().parents[2]

STRATEGIES = ["none", "simple", "first", "average", "max"]

TEXTS = [
    # Plain sentences with each common kind of entity.
    "My name is Alex Rivera and my SSN is 472-81-0094.",
    "Please call Zoë Saldaña at +1 (415) 555-0134 or write to zoe.s@example.com before Friday.",
    "Herr Jürgen Müller wohnt in der Lindenstraße 12, 10115 Berlin.",
    "I live at 1600 Amphitheatre Parkway, Apt. 4B, Mountain View, CA 94043.",
    "Wire it to IBAN DE89 3704 0044 0532 0130 00, routing 021000021, for Maria-José O'Neill.",
    "passport C01X00T47, driver's licence D1234567, see https://example.org/users/jane.doe?id=7",
    "Nothing to see here, the weather is fine.",
    # Words that the tokenizer splits, joined and apostrophised names.
    "Zoë",
    "Zoë, Chloë and Anaïs met Siobhán Ní Dhomhnaill-Krzyżanowska.",
    "JEAN-PIERRE D'ARCY-SMYTHE <jp.darcy@mail.example.co.uk>",
    # Combining marks: the same names in decomposed form (e + U+0308), marks stacked on one letter.
    "Zoe\u0308 and Andre\u0301 Nu\u0303n\u0303ez",
    "a\u0301\u0308\u0323 Tom\u0301 Smith",
    # Other scripts; Chinese characters are words of their own, Hangul is decomposed into several pieces.
    "我叫王小明，电话是 138-0013-8000，住在北京市朝阳区。",
    "田中太郎さんのメールは taro@example.jp です。",
    "김철수 씨의 전화번호는 010-1234-5678 입니다.",
    "Меня зовут Иван Петров, мой адрес: ул. Ленина, 5, Москва.",
    "اسمي محمد علي وأعيش في القاهرة.",
    # Emoji outside the basic plane: skin tone, family joined by ZWJ, flags, variation selector, keycap.
    "👋🏽 I'm Priya Sharma 👩‍👩‍👧‍👦 from Mumbai 🇮🇳 call 📞 +91 98765 43210 ❤️ 1️⃣",
    "👩‍💻John👨‍🚀Smith🏳️‍🌈",
    # White space and characters the tokenizer drops: tabs, line ends, no-break, zero-width, control, replacement.
    "\tJane\u00a0Doe\r\n  jane@example.com\u200b\u0000\ufffd  ",
    "ﬁrst name: ﬂorian, ½ of №5 ﷺ",
    # Long: a word over the tokenizer's 100 characters becomes one unknown piece.
    "Contact " + "x" * 120 + " Miller at 555-0199.",
    # Empty or nearly so.
    "",
    " ",
    ".",
    "\u200b",
    "a",
    # Repeats, so that neighbours of one kind are told apart or joined.
    "Anna Anna Anna Smith Smith, Berlin Berlin, Paris",
    # Long but within the model's 512 tokens.
    "On Monday Dr. Emily Zhang (emily.zhang@clinic.example, 212-555-0147) saw Robert Ōkubo of 77 Massachusetts Ave, "
    "Cambridge, MA 02139; on Tuesday she wrote to Łukasz Żółć in Kraków. " * 6,
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "model-runtime" / "tests" / "expected" / "ner.json")
    arguments = parser.parse_args()
    transformers_logging.set_verbosity_error()
    # One thread, so that sums come in the same order wherever this runs.
    torch.set_num_threads(1)
    try:
        model, tokenizer = rampart.load(), AutoTokenizer.from_pretrained(rampart.directory())
    except ModelNotFound as error:
        print(f"expected_outputs: {error}", file=sys.stderr)
        return 1
    classify = pipeline("token-classification", model=model, tokenizer=tokenizer, device="cpu")
    cases = [
        {"text": text, "aggregation_strategy": strategy, "entities": [plain(entity) for entity in found]}
        for text in TEXTS
        for strategy in STRATEGIES
        for found in [classify(text, aggregation_strategy=strategy)]
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    arguments.out.write_text(f"[\n{lines}\n]\n")
    print(f"wrote {arguments.out}: {len(TEXTS)} texts x {len(STRATEGIES)} strategies, "
          f"{sum(len(case['entities']) for case in cases)} entities")
    return 0


def requests(task: str, model: torch.nn.Module, processor: PreTrainedTokenizerFast | BaseImageProcessor) -> list[dict]:
    """Requests to `/predict` with the answers that transformers gives on the untraced model."""
    torch.set_num_threads(1)
    if task == "image-classification":
        return image_requests(model, processor)
    if task == "text-classification":
        classify = pipeline(task, model=model, tokenizer=processor, device="cpu")
        asked = [{}, {"top_k": None}, {"top_k": 1}, {"top_k": 2, "function_to_apply": "sigmoid"}, {"function_to_apply": "none"}]
        return [row(text, parameters, classify(text, **parameters)) for text in TEXTS for parameters in asked]
    extract = pipeline(task, model=model, tokenizer=processor, device="cpu")
    tokens = {text: torch.tensor(extract(text)) for text in TEXTS}
    rows = []
    for text, vectors in tokens.items():
        for way, pool in POOLINGS.items():
            pooled = pool(vectors)[0]
            rows.append(row(text, {"pooling": way, "normalize": False}, pooled.tolist()))
            rows.append(row(text, {"pooling": way, "normalize": True}, torch.nn.functional.normalize(pooled, dim=0).tolist()))
    # Unpooled ones are long: the short texts will do.
    rows += [row(text, {"pooling": "none", "normalize": False}, tokens[text].tolist()) for text in TEXTS if tokens[text].shape[1] < 12]
    return rows


def image_requests(model: torch.nn.Module, processor: BaseImageProcessor) -> list[dict]:
    """Each image in Base64, alone; the first also with the pipeline's parameters."""
    classify = pipeline("image-classification", model=model, image_processor=processor, device="cpu")
    images = {name: base64.b64encode(data).decode() for name, data in [*photos.encoded(226, 150), *photos.shapes()]}
    rows = [row(image, {}, classify(image)) | {"name": name} for name, image in images.items()]
    first = next(iter(images.values()))
    asked = [{"top_k": 1}, {"top_k": 7}, {"top_k": 10_000}, {"top_k": 3, "function_to_apply": "sigmoid"}, {"function_to_apply": "none"}]
    return rows + [row(first, parameters, classify(first, **parameters)) for parameters in asked]


# As sentence-transformers pools one text: over all its tokens, the special ones included.
POOLINGS = {
    "mean": lambda vectors: vectors.mean(1),
    "cls": lambda vectors: vectors[:, 0],
    "max": lambda vectors: vectors.max(1).values,
}


def row(text: str, parameters: dict, answer: object) -> dict:
    return {"inputs": text, "parameters": parameters, "answer": rounded(answer)}


def rounded(value: object) -> object:
    """Numbers to the six digits that fp32 holds."""
    match value:
        case float():
            return round(value, 6)
        case list():
            return [rounded(part) for part in value]
        case dict():
            return {key: rounded(part) for key, part in value.items()}
    return value


def plain(entity: dict) -> dict:
    """The fields that go over the wire; numpy's numbers as Python's, the score to the six digits fp32 holds."""
    names = ("entity", "entity_group", "score", "index", "word", "start", "end")
    kept = {name: entity[name] for name in names if name in entity}
    return kept | {"score": round(float(kept["score"]), 6)}


if __name__ == "__main__":
    sys.exit(main())
