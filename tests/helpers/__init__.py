"""Small networks, batches, searches and goldens that several test files use."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
