"""The bare model's limit: texts a second without any server. The texts are tokenised and sorted beforehand, cut into batches of at
most BUDGET padded tokens, and divided among as many processes as there are cores, each with one thread of torch.

    python limit.py MODEL MODULE TEXTS.json SECONDS      for each line on standard input one line with the figures: texts a second, CPU ms a text
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer

BUDGET = 256


def batches(directory: Path, texts: list[str]) -> list[tuple[torch.Tensor, ...]]:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    chosen: list[list] = [[]]
    for encoding in sorted(map(tokenizer.encode, texts), key=len):
        if (len(chosen[-1]) + 1) * len(encoding) > BUDGET and chosen[-1]:
            chosen.append([])
        chosen[-1].append(encoding)
    for batch in chosen:
        for encoding in batch:
            encoding.pad(len(batch[-1]))
    names = ["ids", "attention_mask", "type_ids"]
    return [tuple(torch.tensor([getattr(encoding, name) for encoding in batch]) for name in names) for batch in chosen]


@torch.inference_mode()
def work(directory: Path, module: str, texts: list[str], seconds: float, index: int, step: int, barrier, results) -> None:
    torch.set_num_threads(1)
    model = torch.jit.load(directory / module).eval()
    # Every so-manieth: long and short batches are divided evenly.
    own = batches(directory, texts)[index::step]
    for batch in own[:1] * 2 + own:
        model(*batch)
    while True:
        barrier.wait()
        began, cpu, done = time.monotonic(), time.process_time(), 0
        # Whole passes only, so that long and short texts count as often as they occur.
        while time.monotonic() - began < seconds:
            for batch in own:
                model(*batch)
                done += len(batch[0])
        results.put((done / (time.monotonic() - began), (time.process_time() - cpu) / done))


def main() -> None:
    directory, module, texts, seconds = Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text()), float(sys.argv[4])
    processes = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(processes + 1), context.Queue()
    for index in range(processes):
        arguments = (directory, module, texts, seconds, index, processes, barrier, results)
        context.Process(target=work, args=arguments, daemon=True).start()
    for _ in sys.stdin:
        barrier.wait()
        rates, costs = zip(*(results.get() for _ in range(processes)))
        print(sum(rates), 1000 * sum(costs) / processes, flush=True)


if __name__ == "__main__":
    main()
