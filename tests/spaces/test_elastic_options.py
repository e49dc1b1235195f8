"""Elastic equals exact under every option that places layers by depth."""

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import spaces, tasks
from lswag_jax.proxies import LSwagKernel, LSwagVariant
from lswag_jax.scoring import programs

SPACE = spaces.get(
    "transnas_micro", task=tasks.classification(3), image_size=16, width=4, modules=(4,)
)
PROXIES = (
    LSwagVariant(label="block", layers="block"),
    LSwagVariant(label="block_deep", layers="block", window=(3, 9)),
    LSwagVariant(label="norm", include_norm=True),
    LSwagVariant(label="norm_deep", include_norm=True, window=(2, 6), psi_range="window"),
    LSwagVariant(label="one_based", bins="one_based", window=(3, 9), psi_reduce="sum"),
    LSwagVariant(label="mean", token_reduce="mean", lambda_kind="none"),
    LSwagKernel(),
)


@pytest.mark.slow
def test_options(x64):
    """A cell with a factorised reduction, an absent edge and a 1x1 convolution."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(5, *SPACE.image_shape)), np.arange(5) % 3
    g = SPACE.parse("4-4-1_03_231")
    found = lswag_jax.score(SPACE, [g], images, labels, PROXIES)
    variables = SPACE.extract(programs.initial_variables(SPACE, 0, np.dtype(np.float64)), g)
    exact = lswag_jax.score_model(SPACE.build(g), variables, images, labels, PROXIES)
    for proxy in PROXIES:
        np.testing.assert_allclose(found[proxy.key][0], exact[proxy.key][0], rtol=1e-8)
        for part in ("n_layers", "empty_layers", "n_units"):
            if part in found.parts[proxy.key]:
                assert found.parts[proxy.key][part][0] == exact.parts[proxy.key][part][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "proxy",
    [LSwagVariant(token_reduce="mean", lambda_kind="none"), LSwagKernel(token_mode="mean")],
    ids=lambda proxy: proxy.key,
)
def test_positions_of_padded_maps(proxy):
    """Means over pixels are refused where the elastic network's maps are larger."""
    space = spaces.get("darts", layers=3, width=2, image_size=8, num_classes=3)
    assert space.padded_maps
    g = space.sample(np.random.default_rng(0), 1)
    images = np.zeros((4, 8, 8, 3), np.float32)
    scorer = lswag_jax.make_scorer(space, proxy)
    shapes = jax.eval_shape(space.init, jax.random.key(0))
    with pytest.raises(ValueError, match="pads feature maps"):
        jax.eval_shape(scorer, shapes, space.encode(g), images, np.arange(4) % 3)
