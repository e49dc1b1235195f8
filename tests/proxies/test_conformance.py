"""What every registered proxy keeps, on a ViT and on a CNN space, all of them asked for together.

Jit and one-by-one against a population are the same programs here: `score` compiles one a family
for the space and runs them genotype by genotype; the exact networks have programs of their own.
"""

import functools
import subprocess
import sys

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies, spaces
from lswag_jax.arrays import enable_x64
from lswag_jax.proxies import Gsnr, LinearRegions, Ntk, SynFlow, Zen
from lswag_jax.scoring import programs
from tests.helpers.spaces import SIZES

VIT = spaces.AutoFormer("conform", (12, 24), (1, 2), (2.0, 3.0), (1, 2), head_dim=8, **SIZES)
CNN = spaces.get("nasbench201", width=4, cells=1, num_classes=4, image_size=8)
GENOTYPES = {
    "vit": [VIT.parse(text) for text in ("12/1/2", "24/2,1/2,3")],
    "cnn": [
        CNN.parse(
            "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|"
        ),
        CNN.parse("|nor_conv_1x1~0|+|none~0|none~1|+|nor_conv_3x3~0|skip_connect~1|none~2|"),
    ],
}
DISCONNECTED = CNN.parse("|none~0|+|none~0|nor_conv_3x3~1|+|none~0|skip_connect~1|none~2|")
SPACES = {"vit": VIT, "cnn": CNN}
BATCH = 8
# Small settings, and weights that an exact network shares with the elastic one.
SETTINGS = {"gsnr": Gsnr(n_batches=2), "zen": Zen(init="space", batch=4)}
SETTINGS |= {name: proxies.get(name, batch=4) for name in proxies.names() if name.startswith("az_")}
SETTINGS["linear_regions"] = LinearRegions(crops=16)
SETTINGS |= {name: proxies.get(name, batch=4) for name in ("intrain", "vkdnw")}
CHOSEN = tuple(SETTINGS.get(name, proxies.get(name)) for name in proxies.names())
MEASURED = [proxy.key for proxy in CHOSEN if proxy.passes]
EACH = pytest.mark.parametrize("name", MEASURED)
KINDS = pytest.mark.parametrize("kind", ["vit", pytest.param("cnn", marks=pytest.mark.slow)])
# Those whose cut into mini-batches, crops, or first image depend on the order.
ORDERED = {"zico", "gsnr", "linear_regions", "te_nas", "dextr"}
NOT_FOR_VITS = {"zen", "az_progressivity"}
NOT_FOR_CNNS = {"dss", "autoprox_a"}
DEGENERATE_ON_VITS = {"meco"}  # five tokens: never more positions than channels


@functools.cache
def data(kind: str):
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, *SPACES[kind].image_shape)), np.arange(BATCH) % 4


def run(kind, images, labels, genotypes=None, dtype=np.float64, seed=3):
    with enable_x64(dtype == np.float64):
        return lswag_jax.score(
            SPACES[kind], genotypes or GENOTYPES[kind], images.astype(dtype), labels, CHOSEN,
            seed=seed,
        )  # fmt: skip


@functools.cache
def population(kind: str):
    return run(kind, *data(kind))


@functools.cache
def exact(kind: str, i: int):
    """The i-th network by itself, with the weights that the population's has."""
    space, g = SPACES[kind], GENOTYPES[kind][i]
    with enable_x64(True):
        variables = programs.initial_variables(space, 3, np.dtype(float))
        cut = space.extract(variables, g)
        return lswag_jax.score_model(space.build(g), cut, *data(kind), CHOSEN, seed=3)


# The first, the smaller one, is padded most; the second compiles as long again, CI runs it.
@pytest.mark.parametrize("i", [0, pytest.param(1, marks=pytest.mark.slow)])
@KINDS
@EACH
def test_elastic_is_exact(kind, name, i):
    table, alone = population(kind), exact(kind, i)
    assert table.statuses[name][i] == alone.statuses[name][0]
    np.testing.assert_allclose(table.raw[name][i], alone.raw[name][0], rtol=1e-7, atol=1e-9)


@KINDS
@EACH
def test_status(kind, name):
    """Measured, or declared not to apply to this kind of network."""
    missing = NOT_FOR_VITS if kind == "vit" else NOT_FOR_CNNS
    expected = {"not_applicable"} if name in missing else {"ok", "inf"}
    if kind == "vit" and name in DEGENERATE_ON_VITS:
        expected = {"degenerate"}
    assert set(population(kind).statuses[name]) <= expected


@KINDS
@EACH
def test_order_of_samples(kind, name):
    if name in ORDERED:
        pytest.skip("depends on the order by definition")
    table = _permuted(kind)
    np.testing.assert_allclose(table.raw[name], population(kind).raw[name], rtol=1e-7, atol=1e-9)


@functools.cache
def _permuted(kind):
    images, labels = data(kind)
    order = np.array([3, 1, 2, 0, 7, 5, 6, 4])
    return run(kind, images[order], labels[order])


UNSTABLE = ("ntk", "te_nas", "jacov", "lswag", "zico", "gsnr", "gradsign", "grasp")
DRAWN = ("linear_regions", "meco", "dextr", "intrain", "vkdnw")
DRAWN += tuple(name for name in MEASURED if name.startswith(("az_", "zen")))


# 1/std sums, signs and smallest eigenvalues differ, and so do random tensors.
STABLE = [name for name in MEASURED if name not in (*UNSTABLE, *DRAWN)]


@KINDS
@pytest.mark.parametrize("name", STABLE)
def test_float32(kind, name):
    """Float32 and float64 of the same weights; results are float64 columns either way."""
    narrow, wide = _both_precisions(kind)
    assert narrow[name].dtype == wide[name].dtype == np.float64
    assert narrow.statuses[name][0] == wide.statuses[name][0]
    np.testing.assert_allclose(narrow.raw[name], wide.raw[name], rtol=1e-2)


@functools.cache
def _both_precisions(kind):
    """The program of float64 is that of `exact`, which asked for all proxies too."""
    space, g, (images, labels) = SPACES[kind], GENOTYPES[kind][0], data(kind)
    variables = space.extract(programs.initial_variables(space, 3, np.dtype(np.float32)), g)
    stable, batch = [p for p in CHOSEN if p.key in STABLE], images.astype(np.float32)
    narrow = lswag_jax.score_model(space.build(g), variables, batch, labels, stable, seed=3)
    with enable_x64(True):
        widened = jax.tree.map(lambda v: np.asarray(v, np.float64), variables)
        batch = batch.astype(np.float64)
        return narrow, lswag_jax.score_model(space.build(g), widened, batch, labels, CHOSEN, seed=3)


@KINDS
@EACH
def test_orientation(kind, name):
    """Larger scores are better: raw numbers, negated where lower is better."""
    table = population(kind)
    if table.rules[name] != "score":
        pytest.skip(f"its score is the pool's {table.rules[name]}")
    sign = 1 if proxies.PROXIES[name].higher_is_better else -1
    np.testing.assert_array_equal(table[name], sign * table.raw[name])


DEGENERATE = {
    "constant images": lambda x, y: (np.ones_like(x), y),
    "identical images": lambda x, y: (np.repeat(x[:1], BATCH, 0), y),
    "one class": lambda x, y: (x, np.zeros_like(y)),
}


@functools.cache
def _degenerate(kind, case):
    return run(kind, *DEGENERATE[case](*data(kind)))


@KINDS
@pytest.mark.parametrize("case", DEGENERATE)
@EACH
def test_degenerate_batches(kind, case, name):
    """No crash; where no sample differs from another, no proxy of samples calls itself ok."""
    status = set(_degenerate(kind, case).statuses[name])
    if name in (NOT_FOR_VITS if kind == "vit" else NOT_FOR_CNNS):
        assert status == {"not_applicable"}
    elif case == "one class" and not (kind == "vit" and name in DEGENERATE_ON_VITS):
        assert status <= {"ok", "inf"}
    else:  # the logits are those of one sample
        assert status <= {"degenerate", "inf", "nan"}


@functools.cache
def _disconnected():
    return run("cnn", *data("cnn"), genotypes=[DISCONNECTED])


@pytest.mark.slow
@EACH
def test_disconnected_cell(name):
    assert _disconnected().statuses[name][0] in ("degenerate", "inf", "nan", "not_applicable")


def test_batch_of_one():
    """No pair of samples, no deviation; what needs neither has a score."""
    (images, labels), g = data("vit"), GENOTYPES["vit"][0]
    chosen = [p for p in CHOSEN if p.family in ("batch", "inputs")]  # others take no batch
    chosen = [p for p in chosen if p.key not in ("zico", "gsnr")]
    variables = VIT.extract(programs.initial_variables(VIT, 3, np.dtype(np.float32)), g)
    images = images[:1].astype(np.float32)
    table = lswag_jax.score_model(VIT.build(g), variables, images, labels[:1], chosen)
    assert np.isfinite(table["snip"]).all()
    assert np.isfinite(table["nwot"]).all()


def test_same_draws_in_another_process():
    """Random tensors depend on the seed and their name alone."""
    code = (
        "import jax, numpy as np; from lswag_jax.probe import Draws\n"
        "d = Draws(jax.random.key(5))\n"
        "print(float(d.normal('a', (2, 3), np.float32).sum()), d.sign('b', (4,), np.float32))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout != ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SynFlow(batch_norm="on"), "batch_norm of synflow must be one of"),
        (lambda: Zen(bn_var="none"), "bn_var of zen must be one of"),
        (lambda: Gsnr(n_batches=1), "n_batches of gsnr must be an integer of at least 2"),
        (lambda: Ntk(batch_norm="eval"), "batch_norm of ntk must be one of"),
        (lambda: LinearRegions(crops=1), "crops of linear_regions must be an integer"),
        (
            lambda: proxies.get("az_nas", batch=1),
            "batch of az_nas must be an integer of at least 2",
        ),
        (lambda: proxies.get("dss", branch="x"), "branch of dss must be one of"),
        (lambda: proxies.get("t_cet", transform="x"), "transform of t_cet must be one of"),
        (lambda: proxies.get("swap", mu=3.0), "regularised swap needs mu"),
        (lambda: proxies.get("gradsign", batch_norm="x"), "batch_norm of gradsign must be"),
    ],
)
def test_settings_that_are_not_there(make, message):
    with pytest.raises(ValueError, match=message):
        make()
