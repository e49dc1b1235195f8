"""Plans of all spaces: they are their networks' layers, and elastic networks are the exact ones."""

import functools
import pathlib
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import lswag_jax
from lswag_jax import spaces
from lswag_jax.capture import adapters, tape
from lswag_jax.probe import sizes_of
from lswag_jax.scoring import programs
from lswag_jax.spaces.depth import BIN_RULES, depth_bins
from lswag_jax.spaces.macs import count_macs
from lswag_jax.spaces.plan import WEIGHTED
from tests.helpers.spaces import DETECTOR, SPLIT, WIDE

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "add_a_space.md"
SMALL = {"image_size": 8, "num_classes": 3}
TINY = {"width": 4, "decoder_width": 64, "channels": 2}
# The first block, of a space without a plan, is tests/cli/test_own.py's.
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1:]


def page_module() -> types.ModuleType:
    """The page's larger example as a module, which its classes look their types up in."""
    module = types.ModuleType("nasbench_macro")
    sys.modules[module.__name__] = module
    exec(compile(BLOCKS[0], "docs/add_a_space.md", "exec"), module.__dict__)  # our own page
    return module


get = spaces.get
PAGE_MODULE = page_module()
DARTS = get("darts", layers=3, width=2, **SMALL)
AFFINE = get("darts", layers=1, width=2, affine=True, pool_norm=False, **SMALL)
NASBENCH201 = get("nasbench201", width=4, cells=1, **SMALL)
ELASTIC = {
    "wide": WIDE,
    "split": SPLIT,
    "detector": DETECTOR,
    "nasbench101": get("nasbench101", width=6, stacks=2, cells=1, **SMALL),
    "nasbench201": NASBENCH201,
    "nasbench201_supernet": spaces.supernet_of(NASBENCH201),
    "darts": AFFINE,
    "darts_stemmed": get("darts", layers=1, width=2, stem="imagenet", image_size=32),
    "micro": get("transnas_micro", modules=(4,), image_size=16, num_classes=3, **TINY),
    "jigsaw": get("transnas_micro", task="jigsaw", modules=(4,), image_size=32, **TINY),
    "decoder": get("transnas_micro", task="segmentsemantic", modules=(4,), image_size=16, **TINY),
}
# Of these nasbench201_supernet and darts prove the parts; .ci/run has the first.
SLOW = {
    "darts_supernet": spaces.supernet_of(AFFINE),
    "darts_deep": DARTS,
    "darts_deep_supernet": spaces.supernet_of(DARTS),
}
EVERY = (
    ELASTIC
    | SLOW
    | {
        "macro": get("transnas_macro", image_size=64, **TINY),
        "macro_decoder": get("transnas_macro", task="autoencoder", image_size=64, **TINY),
        "nasbench_macro": PAGE_MODULE.NasBenchMacro(width=4, image_size=16),
    }
)


def per_space(which):
    cases = [
        pytest.param(space, marks=pytest.mark.slow if name in SLOW else ())
        for name, space in which.items()
    ]
    return pytest.mark.parametrize("space", cases, ids=which)


def members(space):
    """A random genotype, and of an elastic network one of the emptiest; of a chain two."""

    def is_valid(g):
        try:
            space.check(g)
        except ValueError:  # a super-network's node that nothing enters
            return False
        return True

    rng = np.random.default_rng(3)
    if is_chain(space):
        return space.sample(rng, 2)
    return [*space.sample(rng, 1), next(filter(is_valid, space.depth_extremes()))]


def is_chain(space):
    return space.chain(space.sample(np.random.default_rng(0), 1)[0]) is not None


@per_space(EVERY)
def test_plan_is_the_built_network(space):
    """Variables, weight layers, active sizes and counts, of random genotypes."""
    for g in members(space):
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
        image = jax.ShapeDtypeStruct((1, *space.image_shape), np.float32)
        dead = getattr(module, "counts_dead_code", False)
        assert count_macs(module.apply, variables, image, dead=dead) == space.macs(g)


@pytest.mark.parametrize("rule", BIN_RULES)
@per_space({name: space for name, space in EVERY.items() if not is_chain(space)})
def test_depths_are_those_of_the_extremes(space, rule):
    """Bins of random genotypes lie in the range, and plans line up."""
    present = space.encode(space.sample(np.random.default_rng(1), 50))["in_units"] > 0
    lowest, highest = space.bin_range(rule)
    bins = depth_bins(present, rule)
    assert ((bins >= lowest) & (bins <= highest))[present].all()


# Whose layers are compared too; each compiles again, CI runs all.
RECORDED = [WIDE, NASBENCH201, *(pytest.param(s, marks=pytest.mark.slow) for s in (SPLIT, AFFINE))]
CASES = [
    *(
        pytest.param(space, "frozen", id=name)
        for name, space in ELASTIC.items()
        if space not in RECORDED
    ),
    pytest.param(NASBENCH201, "eval", id="nasbench201_eval"),
    *(
        pytest.param(space, "frozen", id=name, marks=pytest.mark.slow)
        for name, space in SLOW.items()
    ),
]


@pytest.mark.parametrize(("space", "mode"), CASES)
def test_elastic_is_exact(x64, space, mode):
    """Outputs of the elastic network are those of the exact one with the cut variables."""
    check_elastic(space, mode, is_recorded=False)


@pytest.mark.parametrize("space", RECORDED, ids=["wide", "nasbench201", "split", "darts"])
def test_recorded_layers_are_exact(x64, space):
    """And so are those of each layer, which are zero where the elastic network has more."""
    check_elastic(space, "frozen", is_recorded=True)


def check_elastic(space, mode, is_recorded):
    rng = np.random.default_rng(2)
    images = rng.normal(size=(3, *space.image_shape))
    start = jax.jit(space.init)(jax.random.key(0))
    # Norms and running statistics that are not trivial.
    variables = jax.tree.map(
        lambda v: v.astype(float) + 0.1 * rng.random(v.shape) * (v.ndim == 1), start
    )

    def output(module, variables, *encoded):
        network = adapters.linen_network(module, variables, *encoded, batch_norm=mode)
        if not is_recorded:
            return network(images), jnp.zeros(0)
        recorded = tape.record(network, images)
        calls = [call for layer in (*recorded.layers, *recorded.norms) for call in layer.calls]
        outputs = [call.run(call.params, call.inputs) for call in calls]
        return recorded.logits, jnp.stack([abs(y).sum() for y in outputs])

    @jax.jit
    def elastic(encoded):
        return output(space.network(), space.active_variables(variables, encoded), encoded)

    for g in members(space):
        encoded = {key: value[0] for key, value in space.encode([g]).items()}
        exact = jax.jit(functools.partial(output, space.build(g)))(space.extract(variables, g))
        logits, sums = elastic(encoded)
        np.testing.assert_allclose(logits, exact[0], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(sums[sums > 0], exact[1][exact[1] > 0], rtol=1e-9)


def test_a_sixth_space_fits_150_lines():
    assert BLOCKS[0].count("\n") <= 150


# Rows of the benchmark's table: parameters and FLOPs.
PUBLISHED = {
    "00000000": (387_882, 7_713_280),
    "11111111": (1_588_874, 53_246_464),
    "22222222": (2_932_586, 105_660_928),
    "10021002": (1_550_474, 45_650_432),
}


@pytest.mark.parametrize(("text", "counts"), PUBLISHED.items())
def test_sixth_space_has_the_published_counts(text, counts):
    space = PAGE_MODULE.NasBenchMacro()
    g = space.parse(text)
    assert (space.num_params(g), space.macs(g)) == counts
    assert space.from_json(g.to_json()) == g
    assert space.format(g) == text


@pytest.mark.slow  # its blocks compile for a minute
def test_sixth_space_is_scored_and_searched():
    """The page's last block, and one network of it by itself."""
    scope = dict(vars(PAGE_MODULE))
    exec(compile(BLOCKS[1], "docs/add_a_space.md", "exec"), scope)  # our own page
    table, space = scope["table"], scope["space"]
    assert list(table.status) == ["ok", "ok"]
    assert len(scope["archive"]) == 3
    g = space.parse(table.ids[0])
    variables = space.extract(programs.initial_variables(space, 0, np.dtype("f4")), g)
    alone = lswag_jax.score_model(
        space.build(g), variables, scope["images"], scope["labels"], ("lswag", "params", "macs")
    )
    for name in ("lswag", "params", "macs"):
        assert table[name][0] == pytest.approx(alone[name][0], rel=1e-3)
