"""A sentiment model, trained here in a minute: MiniLM's layers as they are, and on them a head that has learnt the words of VADER's lexicon.

Why: no package ships a small text classifier for PyTorch. The lexicon (7,500 words and emoticons, each rated by ten people from -4 to 4)
is data that a package does ship. The words that most people called clearly good or bad, alone and in short sentences, teach the head; words
held back say how well (the export fails below `LEAST_ACCURACY`). It is a demonstration and a test of `model-runtime`, no product.

The head is that of transformers' own BertForSequenceClassification, so that its pipeline runs the model as it is.
"""

from __future__ import annotations

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

import minilm
from packages import files_in

NAME = "lexicon-sentiment"
VERSION = "1"
LICENSE = "Apache-2.0 and MIT"
ATTRIBUTION = f"{minilm.ATTRIBUTION}; head trained on the lexicon of VADER by C.J. Hutto, MIT, https://github.com/cjhutto/vaderSentiment"
LABELS = ["negative", "positive"]

# Nearer to 0 than this, people disagree.
CLEAR = 1.0
TEMPLATES = ["{}", "It was {}.", "I think this is {}, really.", "The food and the people there: {}."]
HELD_BACK = 10  # every tenth word
LEAST_ACCURACY = 0.8
EPOCHS = 30
BATCH = 256


class TrainingFailed(Exception):
    """The head did not learn; the text says how badly."""


def load() -> BertForSequenceClassification:
    """The trained model in fp32, ready for inference."""
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(
        minilm.directory(), num_labels=len(LABELS), id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)}, problem_type="single_label_classification",
    )
    model = BertForSequenceClassification._from_config(config, attn_implementation="eager").float()
    model.bert.load_state_dict(minilm.load().state_dict(), strict=True)
    model.eval()  # no dropout: the layers below the head stay as they are
    train(model)
    config.architectures = ["BertForSequenceClassification"]
    return model


def train(model: BertForSequenceClassification) -> None:
    words = lexicon()
    texts = [(template.format(word), label) for word, label in words for template in TEMPLATES]
    features, labels = first_tokens(model, [text for text, _ in texts]), torch.tensor([label for _, label in texts])
    # All sentences with a word are on the same side, so that no word is both taught and asked.
    asked = torch.arange(len(texts)) // len(TEMPLATES) % HELD_BACK == 0
    head = torch.nn.ModuleList([model.bert.pooler, model.classifier])
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
    taught = (~asked).nonzero().flatten()
    for _ in range(EPOCHS):
        for batch in taught[torch.randperm(len(taught))].split(BATCH):
            loss = torch.nn.functional.cross_entropy(logits(model, features[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        accuracy = (logits(model, features[asked]).argmax(-1) == labels[asked]).float().mean().item()
    print(f"  trained on {len(words)} words; {accuracy:.1%} right on {int(asked.sum())} sentences with words held back")
    if accuracy < LEAST_ACCURACY:
        raise TrainingFailed(f"the sentiment model is right on only {accuracy:.1%} of the held-back words")


def logits(model: BertForSequenceClassification, features: torch.Tensor) -> torch.Tensor:
    return model.classifier(model.bert.pooler(features))


@torch.inference_mode()
def first_tokens(model: BertForSequenceClassification, texts: list[str]) -> torch.Tensor:
    """What the frozen layers say of each text: [texts, 1, width], as the pooler wants it."""
    tokenizer = AutoTokenizer.from_pretrained(minilm.directory(), local_files_only=True)
    # Sorted by length, so that little is padded.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found = torch.empty(len(texts), 1, model.config.hidden_size)
    for start in range(0, len(texts), BATCH):
        chosen = order[start : start + BATCH]
        encoded = tokenizer([texts[index] for index in chosen], padding=True, return_tensors="pt")
        found[chosen] = model.bert(**encoded).last_hidden_state[:, :1]
    # Copied, so that training may use what inference made.
    return found.clone()


def lexicon() -> list[tuple[str, int]]:
    """The words that people agree on, each with the number of its label."""
    file = files_in("vaderSentiment", ".", "vader_lexicon.txt") / "vader_lexicon.txt"
    words = []
    for line in file.read_text(encoding="utf-8").splitlines():
        word, mean, *_ = line.split("\t")
        if word.isalpha() and abs(float(mean)) >= CLEAR:
            words.append((word, int(float(mean) > 0)))
    return words
