"""The last step of docs/train.md: a trained network as one file that needs neither Flax nor us."""

import re

import jax
import numpy as np

from lswag_jax.training import inherit, model_files
from tests.helpers import ROOT
from tests.helpers.spaces import WIDE

DOCS = ROOT / "docs" / "train.md"


def test_exported_network_predicts_alike():
    g = WIDE.parse("12/1/2")
    model = model_files.Model(
        WIDE,
        g,
        inherit.initial(WIDE, g, jax.random.key(0)),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        crop="none",
        classes=range(4),
        metrics={},
        provenance={},
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    (block,) = re.findall(r"```python\n(import jax\n.*?)```", DOCS.read_text(), re.DOTALL)
    names = {"model": model, "images": images}
    # The documentation's own code, which is ours.
    exec(block, names)
    served = names["served"].call(model.prepare(images[:1]))
    np.testing.assert_allclose(served, model.predict(images)[:1], rtol=1e-5)
