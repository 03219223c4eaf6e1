"""The model in bf16 or fp16: traced on its own, and compared with fp32 before it is written.

A traced model has its casts baked in, so each precision is a file beside `model.pt`. It takes the same tensors (int64, or float32 of images) and
returns float32.

What may differ. Each product and sum is rounded to 8 (bf16) or 11 (fp16) significant bits, an error of up to 2^-9 or 2^-12 each time; over
the layers these add up to some ten times that at the logits, which are around 10. A score moves at most a quarter as far as its logit. Hence
the bounds below, with room for deeper models: a model that leaves them has lost more than digits (fp16 that overflows, a sum that needs
fp32). A label may change only where fp32 itself was as good as undecided, its two best closer together than scores may move.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """A number format, and how far from fp32 the model may be in it."""

    dtype: torch.dtype
    file: str
    # The most that a score, of 0 to 1, may move.
    score: float
    # The least cosine between a vector and fp32's.
    cosine: float


PRECISIONS = {
    "bf16": Precision(torch.bfloat16, "model.bf16.pt", score=0.1, cosine=0.999),
    "fp16": Precision(torch.float16, "model.fp16.pt", score=0.02, cosine=0.9999),
}


class Lowered(torch.nn.Module):
    """A function of plain tensors, computed in `dtype`, with its output as float32."""

    def __init__(self, plain: torch.nn.Module, dtype: torch.dtype):
        super().__init__()
        # Casts parameters and buffers of floats; position_ids and their like stay integers.
        self.plain, self.dtype = copy.deepcopy(plain).to(dtype), dtype

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        # Tokens are integers and stay so; images are float32 outside.
        return self.plain(*(tensor.to(self.dtype) if tensor.is_floating_point() else tensor for tensor in tensors)).float()


class Comparison:
    """What fp32 and the other precision say of the same texts."""

    def __init__(self, precision: Precision):
        self.precision = precision
        self.labels = self.equal = self.undecided = 0
        self.score = 0.0
        self.cosine = 1.0

    def add_labels(self, expected: torch.Tensor, found: torch.Tensor) -> None:
        """Logits, a row for each label decision."""
        expected, found = expected.softmax(-1), found.softmax(-1)
        same = expected.argmax(-1) == found.argmax(-1)
        best = expected.topk(2, -1).values
        self.labels += same.numel()
        self.equal += int(same.sum())
        self.undecided += int((~same & (best[:, 0] - best[:, 1] <= self.precision.score)).sum())
        # `max` would pass over a NaN in Python, not in torch.
        self.score = float(torch.maximum(torch.tensor(self.score), (expected - found).abs().max()))

    def add_vectors(self, expected: torch.Tensor, found: torch.Tensor) -> None:
        """Rows are vectors."""
        cosine = torch.nn.functional.cosine_similarity(expected, found, dim=-1).min()
        self.cosine = float(torch.minimum(torch.tensor(self.cosine), cosine))

    def within_bounds(self) -> bool:
        decided = self.labels - self.equal - self.undecided
        return decided == 0 and self.score <= self.precision.score and self.cosine >= self.precision.cosine

    def __str__(self) -> str:
        if self.labels:
            undecided = f" (the others within {self.precision.score} of a tie in fp32)" if self.undecided else ""
            return f"{self.equal} of {self.labels} labels equal{undecided}, scores differ by at most {self.score:.4f}"
        return f"cosine with fp32's vectors at least {self.cosine:.6f}"
