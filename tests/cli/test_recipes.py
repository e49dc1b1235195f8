"""Every recipe is a whole config, and its small variant one for embedded images."""

import runpy

import pytest

from lswag_jax.cli import loading, own_data, train
from tests.helpers import ROOT

CONFIGS = sorted((ROOT / "configs").glob("train_*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("variant", ["", "runlocal"])
def test_recipe(path, variant):
    module = runpy.run_path(str(path))
    config = module["get_config"](variant)
    if variant and config.data.fit:  # classes are those of the images
        config = own_data.fitted(config)
    space, options = loading.load_space(config), train.load_options(config)
    assert f"--config=configs/{path.name}" in module["__doc__"]
    assert options.epochs > options.optimizer.warmup_epochs
    if variant:
        training, validation = train.load_pools(config, 0)
        assert training.num_classes == validation.num_classes == space.num_classes
        assert space.image_shape == (28, 28, 1)
    if config.genotype:
        train.load_genotype(config, space)
