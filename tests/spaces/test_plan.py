"""Plans of all spaces: they are their networks' layers, and elastic networks are the exact ones."""

import pathlib
import re
import sys
import types

import jax
import numpy as np
import pytest
from flax import traverse_util

import lswag_jax
from lswag_jax import spaces
from lswag_jax.capture import adapters, tape
from lswag_jax.capture.macs import count_macs
from lswag_jax.probe import sizes_of
from lswag_jax.spaces.depth import depth_bins
from lswag_jax.spaces.plan import WEIGHTED
from tests.helpers.spaces import SPLIT, WIDE

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "add_a_space.md"
SMALL = {"image_size": 8, "num_classes": 3}
TINY = {"width": 4, "decoder_width": 64, "channels": 2}
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def page_module() -> types.ModuleType:
    """The page's first block as a module, which its classes look their types up in."""
    module = types.ModuleType("nasbench_macro")
    sys.modules[module.__name__] = module
    exec(compile(BLOCKS[0], "docs/add_a_space.md", "exec"), module.__dict__)  # our own page
    return module


get = spaces.get
PAGE_MODULE = page_module()
ELASTIC = {
    "wide": WIDE,
    "split": SPLIT,
    "nasbench101": get("nasbench101", width=6, stacks=2, cells=1, **SMALL),
    "nasbench201": get("nasbench201", width=4, cells=1, **SMALL),
    "darts": get("darts", layers=3, width=2, **SMALL),
    "micro": get("transnas_micro", modules=(4,), image_size=16, num_classes=3, **TINY),
    "jigsaw": get("transnas_micro", task="jigsaw", modules=(4,), image_size=32, **TINY),
    "decoder": get("transnas_micro", task="segmentsemantic", modules=(4,), image_size=16, **TINY),
}
ELASTIC["nasbench201_supernet"] = spaces.supernet_of(ELASTIC["nasbench201"])
EVERY = ELASTIC | {
    "darts_imagenet": get(
        "darts", layers=4, width=4, stem="imagenet", affine=True, pool_norm=False, image_size=32
    ),
    "darts_supernet": spaces.supernet_of(ELASTIC["darts"]),
    "macro": get("transnas_macro", image_size=64, **TINY),
    "macro_decoder": get("transnas_macro", task="autoencoder", image_size=64, **TINY),
    "nasbench_macro": PAGE_MODULE.NasBenchMacro(width=4, image_size=16),
}


def per_space(which):
    return pytest.mark.parametrize("space", which.values(), ids=which)


@per_space(EVERY)
def test_plan_is_the_built_network(space):
    """Variables, weight layers, active sizes and counts, of random genotypes."""
    for g in space.sample(np.random.default_rng(0), 3):
        plan, module, traced = space.plan(g), space.build(g), {}
        images = jax.ShapeDtypeStruct((2, *space.image_shape), np.float32)
        variables = jax.eval_shape(module.init, jax.random.key(0), images)
        shapes = {p: leaf.shape for p, leaf in traverse_util.flatten_dict(variables).items()}
        assert plan.variables() == shapes

        def record(variables, images, module=module, traced=traced):
            recorded = tape.record(adapters.linen_network(module, variables), images)
            traced["sizes"] = sizes_of(recorded, recorded.activations)
            traced["names"] = [layer.name for layer in recorded.layers]
            return recorded.logits

        jax.eval_shape(record, variables, images)
        present = [(path, layer) for path, layer in plan.named_layers() if layer.present]
        assert traced["names"] == ["/".join(p) for p, x in present if x.kind in WEIGHTED]
        for key, units in traced["sizes"].items():
            row = space.encode([g])[key][0]
            np.testing.assert_array_equal(row[row > 0], units, err_msg=key)
        params = jax.tree.leaves(variables["params"])
        assert space.num_params(g) == sum(leaf.size for leaf in params)
        counted = count_macs(module.apply, variables, jax.ShapeDtypeStruct(
            (1, *space.image_shape), np.float32
        ))  # fmt: skip
        # The program of a transposed convolution multiplies the zeros between the pixels too.
        doubled = sum(layer.macs for _, layer in present if layer.kind == "conv_transpose")
        assert counted == space.macs(g) + 3 * doubled


@per_space(EVERY)
def test_places_are_the_same_for_every_genotype(space):
    """Where networks are elastic, only what is present differs between genotypes."""
    if space.chain(space.sample(np.random.default_rng(0), 1)[0]) is not None:
        pytest.skip("its networks are chains")
    members = space.sample(np.random.default_rng(1), 20)
    found = space.encode(members)["in_units"] > 0
    lowest, highest = space.bin_range()
    bins = np.asarray(depth_bins(found))
    assert found.shape[1] == len(lowest)
    assert ((bins >= lowest) & (bins <= highest))[found].all()


@per_space(ELASTIC)
def test_elastic_is_exact(x64, space):
    """Outputs of the elastic network are those of the exact one with the cut variables."""
    rng = np.random.default_rng(2)
    images = rng.normal(size=(3, *space.image_shape))
    start = jax.jit(space.init)(jax.random.key(0))
    # Norms and running statistics that are not trivial.
    variables = jax.tree.map(
        lambda v: np.asarray(v, np.float64) + 0.1 * rng.random(v.shape) * (v.ndim == 1), start
    )

    @jax.jit
    def elastic(encoded):
        active = space.active_variables(variables, encoded)
        network = adapters.linen_network(space.network(), active, encoded)
        return network(images, adapters.no_hook)

    for g in space.sample(np.random.default_rng(3), 2):
        encoded = {key: value[0] for key, value in space.encode([g]).items()}
        network = adapters.linen_network(space.build(g), space.extract(variables, g))
        exact = network(images, adapters.no_hook)
        np.testing.assert_allclose(elastic(encoded), exact, rtol=1e-9, atol=1e-10)


def test_a_sixth_space_fits_150_lines():
    assert BLOCKS[0].count("\n") <= 150


# Rows of the benchmark's table: parameters and FLOPs.
PUBLISHED = {
    "00000000": (387_882, 7_713_280),
    "11111111": (1_588_874, 53_246_464),
    "22222222": (2_932_586, 105_660_928),
    "10021002": (1_550_474, 45_650_432),
}


def test_sixth_space_has_the_published_counts():
    space = PAGE_MODULE.NasBenchMacro()
    for text, counts in PUBLISHED.items():
        g = space.parse(text)
        assert (space.num_params(g), space.macs(g)) == counts
        assert space.from_json(g.to_json()) == g
        assert space.format(g) == text


@pytest.mark.slow  # its blocks compile for a minute
def test_sixth_space_is_scored_and_searched():
    """The page's second block, and one network of it by itself."""
    scope = dict(vars(PAGE_MODULE))
    exec(compile(BLOCKS[1], "docs/add_a_space.md", "exec"), scope)  # our own page
    table, space = scope["table"], scope["space"]
    assert list(table.status) == ["ok", "ok"]
    assert len(scope["archive"]) == 3
    g = space.parse(table.ids[0])
    variables = space.extract(lswag_jax.scoring.population._initial(space, 0, np.dtype("f4")), g)
    alone = lswag_jax.score_model(
        space.build(g), variables, scope["images"], scope["labels"], ("lswag", "params", "macs")
    )
    for name in ("lswag", "params", "macs"):
        assert table[name][0] == pytest.approx(alone[name][0], rel=1e-3)
