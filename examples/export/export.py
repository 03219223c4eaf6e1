#!/usr/bin/env python3
"""Writes a model directory that `model-runtime serve --model DIR` can load.

    python export.py --model ner --out DIR                            the NER model of the demonstration (also: embedding, image, sentiment, tensors, tiny)
    python export.py --hf DIR --task token-classification --out DIR   a local Hugging Face model directory
    python export.py --model ner --precision fp32,bf16 --out DIR      also model.bf16.pt, compared with fp32; fp16 is for GPUs

A model directory holds model.pt (TorchScript), tokenizer.json (of texts) or preprocessor_config.json (of images), config.json,
runtime.toml, and the licence; of plain tensors only the first, runtime.toml and the licence. The trace is made from one shape and must hold for all, so before anything is written it is compared with the
untraced model on other batch sizes and lengths, with and without padding; the NER model also with ONNX Runtime on the original file. A
difference ends the export with status 1 and leaves no directory behind.

TorchScript is called deprecated from torch 2.11 on. It is what libtorch 2.6 loads without Python, hence used here.
"""

from __future__ import annotations

import argparse
import inspect
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

import efficientnet
import expected_outputs
import minilm
import penguins
import rampart
import sentiment
import tensor_model
import tiny
from directory import replacing
from packages import ModelNotFound
from precision import PRECISIONS, Comparison, Lowered, Precision

# Against ONNX Runtime, which computes the four-bit product in another order; 4 decimals of a logit are below any score shown.
ONNX_TOLERANCE = 1e-3
# Traced against untraced: the same operators, so only the order of sums may differ.
TRACE_TOLERANCE = 1e-4

SAMPLES = [
    "Please call Zoë Saldaña at +1 (415) 555-0134 or write to zoe.s@example.com before Friday.",
    "ok",
    "Herr Jürgen Müller wohnt in der Lindenstraße 12, 10115 Berlin.",
    "My SSN is 472-81-0094 and I live at 1600 Amphitheatre Parkway, Mountain View, CA 94043. " * 6,
]


# How each task's model is loaded, and what its output is called.
TASKS = {
    "token-classification": (AutoModelForTokenClassification, "logits"),
    "text-classification": (AutoModelForSequenceClassification, "logits"),
    "feature-extraction": (AutoModel, "last_hidden_state"),
    "image-classification": (AutoModelForImageClassification, "logits"),
}


class ExportFailed(Exception):
    """Nothing was written; the text says what is wrong and what to do."""


@dataclass
class Source:
    """A model to export, and what its directory must say about it."""

    task: str
    model: torch.nn.Module
    # What makes the model's input of a text or an image.
    processor: PreTrainedTokenizerFast | BaseImageProcessor
    name: str
    version: str = ""
    license: str = ""
    attribution: str = ""
    license_file: Path | None = None
    # What runtime.toml says beside task, inputs and length.
    settings: dict[str, str | bool] = field(default_factory=dict)

    @property
    def samples(self) -> list[str] | list[Image.Image]:
        """Inputs to compare on: the first two are traced."""
        return noise() if self.task == "image-classification" else SAMPLES


class Plain(torch.nn.Module):
    """The model as a function of plain tensors to a plain tensor: what a TorchScript caller can use."""

    def __init__(self, source: Source, inputs: list[str]):
        super().__init__()
        self.model, self.inputs, self.output = source.model, inputs, TASKS[source.task][1]

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.inputs, tensors)), return_dict=True)[self.output]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the directory to write; replaced when it exists")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", choices=sorted([*MODELS, *TENSOR_MODELS]), help="one of the models that packages ship")
    which.add_argument("--hf", type=Path, metavar="DIR", help="a local Hugging Face model directory")
    parser.add_argument("--expected", type=Path, metavar="FILE", help="also write requests with the answers of transformers, for tests")
    parser.add_argument(
        "--precision", type=precisions, default=[], metavar="LIST", help="fp32 (the default, and always written), bf16, fp16: with commas"
    )
    parser.add_argument("--task", choices=sorted(TASKS), help="what the model of --hf does")
    arguments = parser.parse_args()
    if bool(arguments.hf) != bool(arguments.task):
        parser.error("--hf and --task go together")
    if arguments.expected and (arguments.model in ("ner", "tiny") or arguments.task == "token-classification"):
        parser.error("for token-classification there is expected_outputs.py")
    transformers_logging.set_verbosity_error()  # it warns about losses, which only training has
    try:
        if arguments.model in TENSOR_MODELS:
            tensor_model.export(TENSOR_MODELS[arguments.model], arguments.out, arguments.expected)
            return 0
        source = load_local(arguments.hf, arguments.task) if arguments.hf else MODELS[arguments.model]()
        if arguments.expected:
            requests = expected_outputs.requests(source.task, source.model, source.processor)
            arguments.expected.write_text(json.dumps(requests))
        export(source, arguments.precision, arguments.out)
    except (ExportFailed, ModelNotFound, sentiment.TrainingFailed, penguins.TrainingFailed, tensor_model.TraceDiffers, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def precisions(text: str) -> list[Precision]:
    """Those beside fp32."""
    names = dict.fromkeys(text.split(","))
    unknown = [name for name in names if name != "fp32" and name not in PRECISIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown precision {', '.join(unknown)}; there are fp32, {', '.join(PRECISIONS)}")
    return [PRECISIONS[name] for name in names if name != "fp32"]


def load_rampart() -> Source:
    files = rampart.directory()
    source = Source(
        "token-classification",
        rampart.load(),
        AutoTokenizer.from_pretrained(files),
        rampart.NAME,
        rampart.VERSION,
        rampart.LICENSE,
        rampart.ATTRIBUTION,
        files / "LICENSE",
        {"aggregation": "first"},
    )
    compare_with_onnxruntime(source, files / "onnx" / "model_q4.onnx")
    return source


def load_minilm() -> Source:
    files = minilm.directory()
    tokenizer = AutoTokenizer.from_pretrained(files, local_files_only=True)
    return Source(
        "feature-extraction", minilm.load(), tokenizer, minilm.NAME, minilm.VERSION, minilm.LICENSE, minilm.ATTRIBUTION,
        settings=pooling(files),
    )


def load_sentiment() -> Source:
    tokenizer = AutoTokenizer.from_pretrained(minilm.directory(), local_files_only=True)
    model = sentiment.load()
    return Source(
        "text-classification", model, tokenizer, sentiment.NAME, sentiment.VERSION, sentiment.LICENSE, sentiment.ATTRIBUTION,
    )


def load_tiny() -> Source:
    files = rampart.directory()
    tokenizer = AutoTokenizer.from_pretrained(files)
    return Source(
        "token-classification", tiny.load(), tokenizer, tiny.NAME, tiny.VERSION, tiny.LICENSE, tiny.ATTRIBUTION, files / "LICENSE",
        {"aggregation": "first"},
    )


def load_efficientnet() -> Source:
    return Source(
        "image-classification", efficientnet.load(), efficientnet.processor(), efficientnet.NAME, efficientnet.VERSION,
        efficientnet.LICENSE, efficientnet.ATTRIBUTION,
    )


MODELS = {"ner": load_rampart, "embedding": load_minilm, "image": load_efficientnet, "sentiment": load_sentiment, "tiny": load_tiny}
# Of plain tensors, without a tokenizer and Hugging Face's files.
TENSOR_MODELS = {"tensors": penguins}


def load_local(directory: Path, task: str) -> Source:
    if not (directory / "config.json").is_file():
        raise ExportFailed(f"{directory} holds no config.json; --hf takes a local Hugging Face model directory")
    # Eager attention: the fused one picks its path while tracing, from the one shape it sees.
    model = TASKS[task][0].from_pretrained(directory, attn_implementation="eager", local_files_only=True)
    processor = load_processor(directory, task)
    licenses = [directory / name for name in ("LICENSE", "LICENSE.txt", "LICENSE.md") if (directory / name).is_file()]
    settings = {"token-classification": {"aggregation": "first"}, "feature-extraction": pooling(directory)}.get(task, {})
    license_file = next(iter(licenses), None)
    return Source(task, model.float().eval(), processor, directory.resolve().name, license_file=license_file, settings=settings)


def load_processor(directory: Path, task: str) -> PreTrainedTokenizerFast | BaseImageProcessor:
    if task == "image-classification":
        # The slow one computes with Pillow, as model-runtime does.
        return AutoImageProcessor.from_pretrained(directory, local_files_only=True, use_fast=False)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    if not tokenizer.is_fast:
        raise ExportFailed(f"{directory} has no fast tokenizer, so no tokenizer.json can be written")
    return tokenizer


def pooling(directory: Path) -> dict[str, str | bool]:
    """How sentence-transformers pools with this model, if it is one of theirs."""
    config, modules = directory / "1_Pooling" / "config.json", directory / "modules.json"
    if not config.is_file():
        return {}
    told = json.loads(config.read_text())
    ways = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
    chosen = [way for key, way in ways.items() if told.get(key)]
    others = [key for key, value in told.items() if key.startswith("pooling_mode_") and value is True and key not in ways]
    if len(chosen) != 1 or others:
        raise ExportFailed(f"{config} asks for a pooling that model-runtime does not know; it knows one of mean, cls and max")
    normalizes = modules.is_file() and any(module["type"].endswith(".Normalize") for module in json.loads(modules.read_text()))
    return {"pooling": chosen[0], "normalize": normalizes}


def export(source: Source, others: list[Precision], out: Path) -> None:
    inputs = model_inputs(source)
    print(f"tracing {source.name} ({sum(p.numel() for p in source.model.parameters()) / 1e6:.1f} M parameters, inputs {inputs})")
    traced = trace(source, inputs)
    lowered = {precision.file: lower(source, precision, inputs) for precision in others}
    with replacing(out) as new:
        for name, module in {"model.pt": traced, **lowered}.items():
            torch.jit.save(module, new / name)
        save_processor(source, new)
        source.model.config.save_pretrained(new)
        (new / "runtime.toml").write_text(runtime_toml(source, inputs))
        if source.license_file:
            shutil.copyfile(source.license_file, new / "LICENSE")
        if source.attribution:
            (new / "ATTRIBUTION").write_text(source.attribution + "\n")


def save_processor(source: Source, directory: Path) -> None:
    if isinstance(source.processor, BaseImageProcessor):
        source.processor.save_pretrained(directory)  # preprocessor_config.json
        return
    tokenizer = source.processor.backend_tokenizer
    # Calling the tokenizer before left its padding and truncation switched on in it; the runtime decides these itself.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(directory / "tokenizer.json"))


def model_inputs(source: Source) -> list[str]:
    """The tensors this model takes, in the order of its forward function."""
    accepted = inspect.signature(source.model.forward).parameters
    return [name for name in accepted if name in source.processor.model_input_names]


def max_length(source: Source) -> int:
    """The longest input in tokens, the special ones included."""
    config = source.model.config
    # The RoBERTa family numbers positions from the padding id on, so that many fewer can be used.
    offset = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return min(config.max_position_embeddings - offset, source.processor.model_max_length)


def runtime_toml(source: Source, inputs: list[str]) -> str:
    lines = [f"task = {json.dumps(source.task)}"]
    if source.task != "image-classification":
        lines += [f"inputs = {json.dumps(inputs)}", f"max_seq_length = {max_length(source)}"]
    lines += [
        # JSON writes strings and booleans as TOML does.
        *(f"{key} = {json.dumps(value)}" for key, value in source.settings.items()),
        "",
        "[model]",
    ]
    facts = {"name": source.name, "version": source.version, "license": source.license, "attribution": source.attribution}
    # A JSON string without characters outside ASCII is a TOML basic string too.
    lines += [f"{key} = {json.dumps(value)}" for key, value in facts.items() if value]
    return "\n".join(lines) + "\n"


@torch.inference_mode()
def trace(source: Source, inputs: list[str]) -> torch.jit.ScriptModule:
    """The TorchScript module, compared with the model on shapes that were not traced."""
    plain = Plain(source, inputs).eval()
    samples = source.samples
    traced = torch.jit.trace(plain, encode(source, samples[:2], inputs), check_trace=False)
    batches = [samples[:1], samples[1:2], samples[:3], samples]
    if source.task != "image-classification":
        batches.append([samples[3] * 6] * 2)
    for batch in batches:
        tensors = encode(source, batch, inputs)
        difference = (traced(*tensors) - plain(*tensors)).abs().max().item()
        print(f"  traced = untraced at {list(tensors[0].shape)}: {difference:.1e}")
        if not difference <= TRACE_TOLERANCE:
            raise ExportFailed(f"the trace differs by {difference:.1e} at shape {list(tensors[0].shape)}; it is not dynamic")
    difference = max(batch_difference(source, traced, sample, inputs) for sample in samples[:3])
    print(f"  alone = in a batch, padded: {difference:.1e}")
    if not difference <= TRACE_TOLERANCE:
        raise ExportFailed(f"company changes the result by {difference:.1e}; of texts, the attention mask is not honoured")
    return traced


@torch.inference_mode()
def lower(source: Source, precision: Precision, inputs: list[str]) -> torch.jit.ScriptModule:
    """The TorchScript module of another precision, compared with fp32 on the samples and the tests' texts, alone and in a batch."""
    plain = Plain(source, inputs).eval()
    traced = torch.jit.trace(Lowered(plain, precision.dtype).eval(), encode(source, source.samples[:2], inputs), check_trace=False)
    samples = list(source.samples)
    if source.task != "image-classification":
        samples += [text for text in expected_outputs.TEXTS if text]
    comparison = Comparison(precision)
    for batch in [[sample] for sample in samples] + [samples]:
        tensors = encode(source, batch, inputs)
        expected, found = plain(*tensors), traced(*tensors)
        if expected.dim() == 3:
            # What it says of the padding is nobody's.
            tokens = tensors[inputs.index("attention_mask")].bool()
            expected, found = expected[tokens], found[tokens]
        if source.task == "feature-extraction":
            comparison.add_vectors(expected, found)
        else:
            comparison.add_labels(expected, found)
    print(f"  {precision.file}: {comparison}")
    if not comparison.within_bounds():
        raise ExportFailed(f"{precision.file} is too far from fp32: {comparison}; serve this model in fp32")
    return traced


def encode(source: Source, samples: list[str] | list[Image.Image], inputs: list[str]) -> tuple[torch.Tensor, ...]:
    if isinstance(source.processor, BaseImageProcessor):
        encoded = source.processor(samples, return_tensors="pt")
    else:
        encoded = source.processor(samples, padding=True, truncation=True, max_length=max_length(source), return_tensors="pt")
    return tuple(encoded[name] for name in inputs)


def noise() -> list[Image.Image]:
    """Images of several sizes, the same ones everywhere."""
    random = np.random.default_rng(0)
    sizes = [(480, 640), (300, 200), (64, 64), (1000, 50)]
    return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def batch_difference(source: Source, traced: torch.jit.ScriptModule, sample: str | Image.Image, inputs: list[str]) -> float:
    alone = traced(*encode(source, [sample], inputs))
    batch = traced(*encode(source, [sample, source.samples[3]], inputs))
    # A row for each token, of which the first ones are this text's, or one for all of it.
    own = batch[0, : alone.shape[1]] if alone.dim() == 3 else batch[0]
    return (own - alone[0]).abs().max().item()


@torch.inference_mode()
def compare_with_onnxruntime(source: Source, onnx_file: Path) -> None:
    """The expanded weights give what the original file gives in the program it was made for."""
    import onnxruntime  # not needed for --hf

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns about the machine's hardware, not about the model
    session = onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    plain = Plain(source, inputs)
    for text in SAMPLES:
        tensors = encode(source, [text], inputs)
        (expected,) = session.run(None, {name: tensor.numpy() for name, tensor in zip(inputs, tensors)})
        difference = float(np.abs(plain(*tensors).numpy() - expected).max())
        print(f"  expanded = ONNX Runtime at {list(tensors[0].shape)}: {difference:.1e}")
        if not difference <= ONNX_TOLERANCE:
            raise ExportFailed(f"the expanded weights differ from ONNX Runtime by {difference:.1e} (allowed {ONNX_TOLERANCE})")


if __name__ == "__main__":
    sys.exit(main())
