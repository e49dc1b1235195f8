"""The tiles of a jigsaw: each is normalised apart, in one call as in several."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies
from lswag_jax.spaces import layers

B = 4
RNG = np.random.default_rng(0)
LABELS = np.arange(B) % 3


class Tiles(nn.Module):
    """A norm that is called once a tile, or once for all."""

    by_tile: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        norm = nn.LayerNorm()
        tiles = [norm(x[:, i]) for i in range(x.shape[1])] if self.by_tile else None
        x = nn.relu(norm(x) if tiles is None else jnp.stack(tiles, axis=1))
        return nn.Dense(3)(x.mean((1, 2, 3)))


def test_meco_of_tiles(x64):
    """The tiles of a jigsaw are positions, whether or not each calls the normalisation."""
    tiles = RNG.normal(size=(B, 4, 5, 5, 3))
    params = Tiles(True).init(jax.random.key(0), tiles)
    tables = [
        lswag_jax.score_model(Tiles(t), params, tiles, LABELS, "meco", seed=3)
        for t in (True, False)
    ]
    one, other = (float(table.raw["meco"][0]) for table in tables)
    assert {table.status[0] for table in tables} == {"ok"}
    assert one == pytest.approx(other, rel=1e-9)


class BatchNormTiles(nn.Module):
    """Two convolutions, whose BatchNorm normalises each tile apart: in one call, or in several."""

    in_one: bool

    @nn.compact
    def __call__(self, x, train=False):
        for name in ("first", "second"):
            x = nn.Conv(4, (3, 3), name=f"{name}_conv")(x)
            norm = layers.BatchNorm(by_tile=self.in_one, name=f"{name}_norm")
            runs = [x] if self.in_one else [x[:, i] for i in range(x.shape[1])]
            outputs = [norm(run, train) for run in runs]
            x = nn.relu(outputs[0] if self.in_one else jnp.stack(outputs, axis=1))
        return nn.Dense(3)(layers.Feature(final=True)(x).mean((1, 2, 3)))


def batch_norm_tiles():
    images = RNG.normal(size=(B, 3, 5, 5, 2)) * np.arange(1, 4)[:, None, None, None]
    shapes = jax.eval_shape(BatchNormTiles(True).init, jax.random.key(0), images)
    rng = np.random.default_rng(5)
    return images, jax.tree.map(lambda s: jnp.asarray(rng.random(s.shape) + 0.1), shapes)


@pytest.mark.parametrize("mode", ["frozen", "eval", "batch1_train", "through"])
def test_a_batch_norm_of_tiles_is_one_a_tile(x64, mode):
    images, variables = batch_norm_tiles()
    names = ("lswag", "zico", "fisher", "grasp", "synflow", "intrain", "zen", "meco", "gradsign")
    chosen = [proxies.get(n, **({"batch": 4} if n in ("intrain", "zen") else {})) for n in names]
    tables = [
        lswag_jax.score_model(
            BatchNormTiles(t), variables, images, LABELS, chosen, seed=3, batch_norm=mode
        )
        for t in (True, False)
    ]
    one, other = ({n: float(table.raw[n][0]) for n in names} for table in tables)
    assert one == pytest.approx(other, rel=1e-9, nan_ok=True)
    assert np.isfinite([one[n] for n in names if n != "gradsign"]).all()


def test_a_batch_norm_of_tiles_learns_tile_by_tile(x64):
    images, variables = batch_norm_tiles()
    one, other = (
        BatchNormTiles(t).apply(variables, images, True, mutable="batch_stats")
        for t in (True, False)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), one, other)
    assert not np.allclose(one[1]["batch_stats"]["first_norm"]["mean"], 0.0)
