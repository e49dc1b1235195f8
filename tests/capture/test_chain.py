"""Networks scored block by block equal the same networks in one program."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import spaces, tasks
from lswag_jax.capture import adapters, chain, tape
from lswag_jax.scoring import programs
from tests.helpers.batches import Batch

SPACE = spaces.get(
    "transnas_macro", task=tasks.classification(3), image_size=64, width=4, decoder_width=64
)

PROXIES = ("lswag", "swap", "nwot")


def variables_of(g):
    return SPACE.extract(programs.initial_variables(SPACE, 0, np.dtype(np.float32)), g)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, *SPACE.image_shape)).astype(np.float32)
    return Batch(images, np.arange(6) % 3)


def test_scores_of_chains(batch):
    """Two networks of different depth in one table; one of them also in one program.

    They are made of the same few blocks, which the tests below have too: each compiles once.
    """
    members = [SPACE.parse("4-1141-basic"), SPACE.parse("4-11411-basic")]
    table = lswag_jax.score(SPACE, members, *batch, PROXIES)
    assert list(table.status) == ["ok", "ok"]
    module = SPACE.build(members[0])
    exact = lswag_jax.score_model(module, variables_of(members[0]), *batch, PROXIES)
    for name in PROXIES:
        np.testing.assert_allclose(table[name][0], exact[name][0], rtol=1e-5)
    lambda_l = table.parts["lswag"]["lambda_l"]
    assert np.isnan(lambda_l).sum(1).tolist() == [lambda_l.shape[1] - 20, 0]
    np.testing.assert_allclose(lambda_l[0, :20], exact.parts["lswag"]["lambda_l"][0], rtol=1e-5)


def test_blocks_are_compiled_once(batch):
    """A network made of blocks that were seen before adds no program."""
    first, second = (SPACE.parse(f"4-{code}-basic") for code in ("1141", "1411"))

    def forward(g):
        run = chain.Chain(SPACE.chain(g), variables_of(g))
        return run.record(batch.images, loss=tape.cross_entropy)

    forward(first)
    before = chain.num_programs()
    recorded = forward(second)
    assert chain.num_programs() <= before + 1  # plain blocks now at another resolution
    forward(second)
    assert chain.num_programs() <= before + 1
    names = [layer.name for layer in recorded.layers]
    assert names[:3] == ["stem/conv", "stem/block/conv", "module_0_block_0/conv_a/conv"]
    assert names[-1] == "head/linear"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="memory maps are Linux's")
def test_programs_are_dropped_before_memory_maps_run_out():
    """A process with more maps than Linux grants dies in LLVM."""
    program = jax.jit(lambda x: x + 1)
    program(1.0)
    chain.drop_programs_when_full(share=1.0)
    assert program._cache_size() == 1
    chain.drop_programs_when_full(share=0.0)
    assert program._cache_size() == 0
    assert program(1.0) == 2.0


def test_window_stops_the_backward_pass(batch):
    images, labels = batch
    g = SPACE.parse("4-1141-basic")
    run = chain.Chain(SPACE.chain(g), variables_of(g))
    recorded = run.record(images, labels, loss=tape.cross_entropy, first_layer=lambda n: n - 6)
    has_cotangent = [layer.calls[0].cotangent is not None for layer in recorded.layers]
    assert has_cotangent == [False] * 14 + [True] * 6


@pytest.mark.parametrize("kind", ["micro", pytest.param("macro", marks=pytest.mark.slow)])
def test_encoder_only(kind):
    """The loss goes through the decoder, whose layers and activations are not seen."""
    shape = {"image_size": 32, "modules": (4, 1)} if kind == "micro" else {"image_size": 64}
    get = functools.partial(
        spaces.get, f"transnas_{kind}", task="autoencoder", width=4, decoder_width=64, **shape
    )
    space, whole = get(encoder_only=True), get()
    g = space.sample(np.random.default_rng(1), 1)[0]
    images = jax.ShapeDtypeStruct((4, *space.image_shape), np.float32)
    encoded = {key: value[0] for key, value in space.encode([g]).items()}
    own = jax.eval_shape(lambda key: whole.extract(whole.init(key), g), jax.random.key(0))

    found = {}

    def record(variables, images):
        network = adapters.linen_network(whole.build(g), variables, unscored=space.unscored)
        recorded = tape.record(network, images, images, loss=space.task.loss)
        assert not any(layer.name.startswith("decoder") for layer in recorded.layers)
        assert all(layer.calls[0].cotangent is not None for layer in recorded.layers)
        found.update(lswag_jax.probe.sizes_of(recorded, recorded.activations))
        return recorded.losses

    assert jax.eval_shape(record, own, images).shape == (4,)
    for key, value in found.items():
        np.testing.assert_array_equal(value, encoded[key][encoded[key] > 0])
    full = whole.encode([g])
    assert len(encoded["in_units"]) < full["in_units"].shape[1]
    assert space.num_params(g) == whole.num_params(g)


def test_mistakes(batch):
    with pytest.raises(ValueError, match="no one program scores them"):
        lswag_jax.make_scorer(SPACE)
    with pytest.raises(ValueError, match="batch_norm='through' needs one program"):
        lswag_jax.score(SPACE, SPACE.genotypes()[:1], *batch, batch_norm="through")
