"""TransNAS-Bench-101's networks: sizes, elastic equals exact, decoders, jigsaw tiles."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax import tasks
from lswag_jax.capture import adapters
from lswag_jax.spaces import convolution
from lswag_jax.spaces.transnas.macro import TransNASMacro
from lswag_jax.spaces.transnas.micro import TransNASMicro

TINY = {"width": 4, "decoder_width": 64, "channels": 2}
MODULES = (4, 2)
ONE_MODULE = {"modules": (4,)}  # where networks run
TASKS = pytest.mark.parametrize("task", tasks.names())


def micro(task, image_size=32, **fields):
    fields = {"modules": MODULES} | TINY | fields
    return TransNASMicro(task=task, image_size=image_size, **fields)


def spaces(task):
    """A space of each kind, the macro one with images that its strides divide."""
    return micro(task), TransNASMacro(task=task, image_size=64, **TINY)


def some(space, n):
    """Random genotypes, and for cells the one without any operation."""
    found = space.sample(np.random.default_rng(0), n)
    return [*found, space.genotypes()[0]] if isinstance(space, TransNASMicro) else found


def float64_variables(space):
    """Variables of the elastic network whose norms and statistics are not trivial."""
    start = jax.jit(space.init)(jax.random.key(0))
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda v: np.asarray(v, np.float64) + 0.1 * rng.random(v.shape) * (v.ndim == 1), start
    )


@pytest.mark.slow  # its programs compile for half a minute
@pytest.mark.filterwarnings("ignore:the logits do not depend on the images")  # of an empty cell
def test_scores_of_elastic_and_exact(x64):
    """Elastic/exact equivalence, for proxies with gradients, mini-batches and patterns."""
    space = micro(tasks.classification(3), 16, **ONE_MODULE)
    rng = np.random.default_rng(1)
    images, labels = rng.normal(size=(6, *space.image_shape)), np.arange(6) % 3
    proxies = ("lswag", "zico", "swap", "nwot", "snip", "fisher", "l2_norm")
    genotypes = [space.parse("4-4-1_23_031"), space.genotypes()[0]]  # every operation, and none
    table = lswag_jax.score(space, genotypes, images, labels, proxies)
    variables = jax.jit(space.init)(jax.random.key(0))
    variables = jax.tree.map(lambda v: v.astype(np.float64), variables)
    for i, g in enumerate(genotypes):
        exact = lswag_jax.score_model(
            space.build(g), space.extract(variables, g), images, labels, proxies
        )
        assert table.status[i] == exact.status[0]
        for key in proxies:
            np.testing.assert_allclose(table[key][i], exact[key][0], rtol=1e-7)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (TransNASMicro(width=32, image_size=16, **ONE_MODULE), "32-4-1_23_131"),
        (TransNASMacro(width=16, image_size=64), "16-1241-basic"),
    ],
    ids=["micro", "macro"],
)
def test_initial_scale(space, text):
    """Kernels of an exact network have Kaiming's standard deviation with fan-out."""
    variables = space.extract(jax.jit(space.init)(jax.random.key(0)), space.parse(text))
    for path, value in jax.tree.leaves_with_path(variables["params"]):
        name = jax.tree_util.keystr(path)
        if value.ndim == 4:
            expected = (2 / (value.shape[0] ** 2 * value.shape[3])) ** 0.5
            assert np.std(value) == pytest.approx(expected, rel=0.15), name
        elif name == "['head']['linear']['kernel']":
            assert np.abs(value).max() == pytest.approx(len(value) ** -0.5, rel=0.02)


@TASKS
def test_macro_networks_are_cut_from_one(task):
    space = TransNASMacro(task=task, image_size=64, **TINY)
    variables = jax.eval_shape(space.init, jax.random.key(0))
    for g in some(space, 3):
        cut = jax.eval_shape(lambda v, g=g: space.extract(v, g), variables)
        images = jnp.zeros((1, *space.image_shape))
        expected = jax.eval_shape(space.build(g).init, jax.random.key(0), images)
        assert jax.tree.map(lambda v: v.shape, cut) == jax.tree.map(lambda v: v.shape, expected)


def test_jigsaw_equals_nine_calls(x64, rng):
    """Tiles share weights and each has its own batch statistics, as nine calls of an encoder."""
    space = micro("jigsaw", num_classes=4, **ONE_MODULE)
    plain = dataclasses.replace(space, task=tasks.classification(4), num_classes=4, image_size=8)
    g = space.parse("4-4-1_23_031")
    variables = space.extract(float64_variables(space), g)
    tiles = rng.normal(size=(5, *space.image_shape))

    def run(space, images, variables):
        network = adapters.linen_network(space.build(g), variables)
        return network(images, lambda *call: call[-1])

    found = jax.jit(functools.partial(run, space, tiles))(variables)
    kernel = np.asarray(variables["params"]["head"]["linear"]["kernel"])
    total, each = np.asarray(variables["params"]["head"]["linear"]["bias"])[None], len(kernel) // 9
    one = jax.jit(functools.partial(run, plain))
    for i in range(9):
        head = {"kernel": kernel[i * each : (i + 1) * each], "bias": np.zeros(4)}
        params = variables["params"] | {"head": {"linear": head}}
        total = total + np.asarray(one(tiles[:, i], variables | {"params": params}))
    np.testing.assert_allclose(found, total, atol=1e-11)


@pytest.mark.parametrize("code", ["2-1132-basic", "2-1432-basic", "2-3432-basic", "2-3433-basic"])
@pytest.mark.parametrize("task", ["segmentsemantic", "autoencoder"])
def test_decoders_put_out_every_pixel(task, code):
    """For every number of strides; the original's sizes of layers."""
    space = TransNASMacro(task=task, image_size=64, width=2, decoder_width=64)
    module, images = space.build(space.parse(code)), jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    output = jax.eval_shape(module.apply, variables, images)
    assert output.shape == (1, 64, 64, space.task.outputs)


def test_training_updates_the_statistics():
    space = micro("class_scene", 16)
    module, images = space.build(space.genotypes()[-1]), jnp.ones((2, *space.image_shape))
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    _, updated = jax.eval_shape(
        lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]), variables, images
    )
    assert jax.tree.map(lambda v: v.shape, updated["batch_stats"]) == jax.tree.map(
        lambda v: v.shape, variables["batch_stats"]
    )


def test_transposed_convolution(x64, rng):
    """Each input pixel adds PyTorch's kernel (ours turned) around twice its place."""
    x, kernel = rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(3, 3, 2, 5))
    theirs = kernel[::-1, ::-1]
    expected = np.zeros((2, 6 + 3, 8 + 3, 5))
    for row in range(3):
        for column in range(4):
            added = np.einsum("bi,hwio->bhwo", x[:, row, column], theirs)
            expected[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += added
    found = convolution.double(jnp.asarray(x), jnp.asarray(kernel))
    np.testing.assert_allclose(found, expected[:, 1:7, 1:9], atol=1e-12)
