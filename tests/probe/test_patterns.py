"""Pattern counting against NumPy's unique."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lswag_jax.probe import patterns


def distinct(bits_BxU):
    return len(np.unique(bits_BxU.T, axis=0))


@settings(max_examples=40)
@given(st.data())
def test_count_is_exact(data):
    samples = data.draw(st.sampled_from([1, 3, 31, 32, 33, 64, 65, 96, 128]))
    units, padding = data.draw(st.sampled_from([1, 50])), data.draw(st.sampled_from([0, 7]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    # Few distinct columns, some of them differing in one sample only, some all zero.
    basis = rng.normal(size=(samples, 6)) * rng.integers(0, 2, size=6)
    basis[:, 1] = basis[:, 0]
    basis[-1, 1] *= -1
    values = basis[:, rng.integers(0, 6, size=units)]
    padded = np.pad(values, ((0, 0), (0, padding)))
    count = patterns.count_distinct(patterns.pack(jnp.asarray(padded)), units)
    assert int(count) == distinct(values > 0)


@pytest.mark.parametrize("samples", [20, 40, 100])
def test_many_units(rng, samples):
    values = rng.normal(size=(samples, 3)) @ rng.normal(size=(3, 5000))
    words = patterns.pack(jnp.asarray(values))
    assert words.shape == (-(-samples // 32), 5000)
    assert int(jax.jit(patterns.count_distinct)(words, 5000)) == distinct(values > 0)


@pytest.mark.parametrize("include", [[True] * 4, [True, False, True, True], [False] * 4])
def test_union_and_each(include, rng):
    layers = [rng.normal(size=(10, 4)) @ rng.normal(size=(4, n)) for n in (30, 30, 11)]
    layers[1][:, :5] = layers[0][:, :5]  # shared patterns
    layers.append(np.zeros((10, 8)))  # a layer that an elastic network does not have
    units = [30, 30, 11, 0]
    words = [patterns.pack(jnp.asarray(layer)) for layer in layers]
    each = patterns.count_each(words, units)
    assert list(map(int, each)) == [distinct(layer > 0) for layer in layers[:3]] + [0]
    chosen = [layer for layer, i in zip(layers[:3], include, strict=False) if i]
    expected = distinct(np.concatenate(chosen, axis=1) > 0) if chosen else 0
    assert int(patterns.count_union(words, units, include)) == expected


def test_duplicated_layer_and_samples(rng):
    """Union is blind to a duplicated layer, and two identical samples can only lower Psi."""
    values = rng.normal(size=(8, 3)) @ rng.normal(size=(3, 200))
    words = patterns.pack(jnp.asarray(values))
    once = int(patterns.count_union([words], [200], [True]))
    assert int(patterns.count_union([words, words], [200, 200], [True, True])) == once
    values[1] = values[0]
    assert int(patterns.count_distinct(patterns.pack(jnp.asarray(values)), 200)) < once


def test_three_symbols_and_threshold():
    values = jnp.array([[1.0, 1.0, 0.2, 0.0], [-1.0, 0.0, -0.2, 0.0]])
    assert int(patterns.count_distinct(patterns.pack(values), 4)) == 2
    assert int(patterns.count_distinct(patterns.pack(values, binarize="sign3"), 4)) == 3
    assert int(patterns.count_distinct(patterns.pack(values, threshold=0.5), 4)) == 2
    with pytest.raises(ValueError, match="threshold must not be negative"):
        patterns.pack(values, threshold=-1.0)
    with pytest.raises(ValueError, match="binarize must be one of"):
        patterns.pack(values, binarize="ternary")


def test_units():
    post = jnp.arange(24.0).reshape(2, 3, 4)
    assert patterns.units(post).shape == (2, 12)
    np.testing.assert_allclose(patterns.units(post, "mean"), post.mean(1))
    np.testing.assert_allclose(patterns.units(post, "cls"), post[:, 0])
    with pytest.raises(ValueError, match="token_reduce must be one of"):
        patterns.units(post, "max")


def test_hamming_kernel(rng):
    values = rng.normal(size=(6, 50))
    bits = values > 0
    expected = (bits[:, None] == bits[None]).sum(-1)
    kernel = patterns.hamming_kernel([jnp.asarray(np.pad(values, ((0, 0), (0, 9))))], [50])
    np.testing.assert_array_equal(kernel, expected)
    assert (np.diagonal(kernel) == 50).all()
    doubled = patterns.hamming_kernel([jnp.asarray(values)] * 2, [50, 50])
    difference = np.linalg.slogdet(doubled)[1] - np.linalg.slogdet(expected)[1]
    assert difference == pytest.approx(6 * np.log(2))  # B log 2
