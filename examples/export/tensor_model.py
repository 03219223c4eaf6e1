"""Exports a model of plain tensors: model.pt, and a runtime.toml that names its inputs and outputs."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import torch

from directory import replacing

TOLERANCE = 1e-4
ROWS = [1, 2, 3, 50]  # batches that are compared; the first two rows are traced


class TraceDiffers(Exception):
    """The trace does not hold for other batches."""


def export(module: ModuleType, out: Path, expected: Path | None) -> None:
    """Writes the model that `module` trains, and perhaps requests to `/predict` with its answers, one for each row."""
    model = module.load()
    inputs, _ = module.rows()
    traced = torch.jit.trace(model, tuple(tensor[:2] for tensor in inputs), check_trace=False)
    for rows in ROWS:
        batch = [tensor[:rows] for tensor in inputs]
        with torch.inference_mode():
            pairs = zip(traced(*batch), model(*batch))
            difference = max((one.float() - other.float()).abs().max().item() for one, other in pairs)
        print(f"  traced = untraced at {rows} rows: {difference:.1e}")
        if not difference <= TOLERANCE:
            raise TraceDiffers(f"the trace differs by {difference:.1e} at {rows} rows; it is not dynamic")
    if expected:
        expected.write_text(json.dumps(requests(module, model, inputs)))
    with replacing(out) as new:
        torch.jit.save(traced, new / "model.pt")
        (new / "runtime.toml").write_text(runtime_toml(module))
        (new / "ATTRIBUTION").write_text(module.ATTRIBUTION + "\n")


@torch.inference_mode()
def requests(module: ModuleType, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[dict]:
    """Each row alone, as plain torch answers it."""
    torch.set_num_threads(1)
    rows = []
    for index in range(len(inputs[0])):
        outputs = model(*(tensor[index : index + 1] for tensor in inputs))
        asked = {name: tensor[index].tolist() for (name, *_), tensor in zip(module.INPUTS, inputs)}
        answer = {name: tensor[0].tolist() for (name, *_), tensor in zip(module.OUTPUTS, outputs)}
        rows.append({"inputs": asked, "parameters": {}, "answer": answer})
    return rows


def runtime_toml(module: ModuleType) -> str:
    lines = ['task = "tensors"', "", "[model]"]
    # JSON writes strings and lists of numbers as TOML does.
    for key, value in [("name", module.NAME), ("version", module.VERSION), ("license", module.LICENSE), ("attribution", module.ATTRIBUTION)]:
        lines.append(f"{key} = {json.dumps(value)}")
    for key, tensors in [("input_tensors", module.INPUTS), ("output_tensors", module.OUTPUTS)]:
        for name, datatype, shape in tensors:
            lines += ["", f"[[{key}]]", f"name = {json.dumps(name)}", f"datatype = {json.dumps(datatype)}", f"shape = {json.dumps(shape)}"]
    return "\n".join(lines) + "\n"
