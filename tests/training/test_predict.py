"""A trained network predicts images however a person has them."""

import jax
import numpy as np
import pytest
from PIL import Image

from lswag_jax.training import inherit, model_files
from tests.helpers.batches import message
from tests.helpers.spaces import WIDE


@pytest.fixture(scope="module")
def model():
    g = WIDE.parse("12/1/2")
    variables = inherit.initial(WIDE, g, jax.random.key(0))
    return model_files.Model(
        WIDE, g, variables, (0.5,) * 3, (0.5,) * 3, "none", range(4), metrics={}, provenance={}
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    path = tmp_path_factory.mktemp("images") / "x.png"
    Image.fromarray(noise).save(path)
    return path


SAME = {
    "a path": lambda path: path,
    "text": str,
    "two paths": lambda path: [path, str(path)],
    "Pillow": lambda path: Image.open(path),
    "an array": lambda path: np.asarray(Image.open(path)),
    "a batch": lambda path: np.asarray(Image.open(path))[None],
    "floats": lambda path: np.asarray(Image.open(path)) / 255,
    "alpha": lambda path: np.asarray(Image.open(path).convert("RGBA")),
    "a JAX array": lambda path: jax.numpy.asarray(np.asarray(Image.open(path))),
    "a generator": lambda path: (p for p in (path, Image.open(path))),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_image(name, model, path):
    expected = model.predict([np.asarray(Image.open(path))])
    found = model.predict(SAME[name](path))
    for row in found:
        np.testing.assert_allclose(row, expected[0], rtol=2e-3)  # floats are resized as floats


GREY = {
    "[H, W]": lambda grey: grey,
    "[H, W, 1]": lambda grey: grey[..., None],
    "[N, H, W]": lambda grey: np.stack([grey, grey]),
    "Pillow's": Image.fromarray,
    "a list": lambda grey: [grey, grey],
}


@pytest.mark.parametrize("name", GREY)
def test_grey_is_repeated(name, model, path):
    grey = np.asarray(Image.open(path).convert("L"))
    expected = model.predict([np.repeat(grey[..., None], 3, axis=-1)])
    found = model.predict(GREY[name](grey))
    assert found.shape == (2 if name in ("[N, H, W]", "a list") else 1, 4)
    np.testing.assert_allclose(found[:1], expected, rtol=1e-5)


BAD = {
    "nothing": (None, "image 0 of the input must be a path, Pillow's image, or an array"),
    "no image": ([], "there is no image to predict"),
    "no file": ("nowhere.png", "cannot read the image nowhere.png"),
    "a number": (3, "image 0 of the input must be"),
    "out of range": (np.full((4, 4, 3), 2.0), r"must lie in \[0, 1\]"),
    "integers": (np.zeros((4, 4, 3), int), "of uint8, uint16 or floating point, got int64"),
    "one of two": ([np.zeros((4, 4)), "x"], "cannot read the image x"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes(name, model):
    given, expected = BAD[name]
    with pytest.raises(ValueError, match=expected) as error:
        model.predict(given)
    message(error)
