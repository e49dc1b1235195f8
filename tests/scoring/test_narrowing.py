"""Programs of narrower networks: the same parts of every proxy, where they pay."""

import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies, spaces
from lswag_jax.scoring import programs
from lswag_jax.spaces import AutoFormer

SIZES = {"image_size": 8, "patch_size": 4, "num_classes": 3}
SPLIT = {"head_dim": None, "relative_position": False}
SPACES = {
    "fixed": AutoFormer("fixed", (8, 12, 16), (1, 2), (1.0, 2.0), (1, 2), head_dim=4, **SIZES),
    "split": AutoFormer("split", (8, 12, 16), (2, 4), (1.0, 2.0), (1, 2), **SPLIT, **SIZES),
}
BATCH = np.random.default_rng(0).normal(size=(8, 8, 8, 3)), np.arange(8) % 3
FEW = ("lswag", "swap", "zen")  # gradients, and weights that are drawn
ALL = tuple(name for name in proxies.names() if name not in ("ntk", "te_nas"))


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("names", [FEW, pytest.param(ALL, marks=pytest.mark.slow)], ids=len)
def test_parts_are_those_of_the_whole(kind, names, x64, monkeypatch):
    """Of networks of both narrower widths, of each depth."""
    space, rng = SPACES[kind], np.random.default_rng(0)
    narrow = [g for g in space.sample(rng, 40) if g.embed_dim < 16]
    picked = list({(g.embed_dim, g.depth): g for g in narrow}.values())
    assert len(picked) == 4
    whole = lswag_jax.score(space, picked, *BATCH, names)
    monkeypatch.setattr(programs, "WORTH_NARROWING", 0)
    programs.clear()
    found = lswag_jax.score(space, picked, *BATCH, names)
    assert programs.count() == 2 * len(list(proxies.programs(proxies.resolve(names))))
    for name, parts in whole.parts.items():
        for key, value in parts.items():
            np.testing.assert_allclose(
                found.parts[name][key], value, rtol=1e-8, atol=1e-10, err_msg=f"{name} {key}"
            )
    np.testing.assert_array_equal(found.status, whole.status)


def test_only_where_it_pays():
    space = SPACES["fixed"]
    wide = space.largest()
    narrow = space.parse("8/1/1")
    assert space.narrowed([narrow]).embed_dims == (8,)
    assert space.narrowed([narrow, wide]) == space
    each = space.macs(wide) - space.macs(space.narrowed([narrow]).largest())
    runs = -(-programs.WORTH_NARROWING // each)  # of one network
    assert programs._worth_narrowing(space, [wide, narrow], runs) == {space.narrowed([narrow])}
    assert programs._worth_narrowing(space, [wide, narrow], runs - 1) == set()
    assert programs._worth_narrowing(space, [wide] * 9, runs) == set()
    assert len(programs._worth_narrowing(space, [narrow] * 3, -(-runs // 3))) == 1


def test_other_spaces_stay_as_they_are():
    space = spaces.get("nasbench201", width=4, cells=1, image_size=8)
    g = space.sample(np.random.default_rng(0), 1)
    assert space.narrowed(g) is space
    assert programs._worth_narrowing(space, g, 10**12) == set()
