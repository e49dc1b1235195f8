"""Small networks, batches, searches and goldens that several test files use."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
NO_SHARED = "no shared"  # such skips are counted at the end of a session


def shared(kind: str) -> pathlib.Path:
    """Folder of `goldens` or `data` beside the repository; skips the test where it is absent."""
    path = SHARED / kind
    if kind == "data":
        path = pathlib.Path(os.environ.get("LSWAG_DATA", path))
    if not path.is_dir():
        pytest.skip(f"{NO_SHARED} {kind} at {path}")
    return path
