"""A model directory that is whole or not there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """An empty directory to write into, which takes the place of `out` at the end. Written beside and moved in one step: an interrupted
    export never leaves half a model where one is expected."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        yield new
        if out.exists():
            out.rename(Path(scratch) / "old")
        new.rename(out)
    print(f"wrote {out} ({sum(file.stat().st_size for file in out.iterdir()) / 1e6:.1f} MB)")
