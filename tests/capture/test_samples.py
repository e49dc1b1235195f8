"""Where the samples are, and whether they are mixed: followed through every equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import lswag_jax
from lswag_jax.capture import models
from lswag_jax.capture.coverage import Coverage
from lswag_jax.capture.record import Program

B = 6  # also the size of other axes, so that no shape tells the samples' axis
relu = jax.nn.relu


def each(function, **options):
    return lambda h: jax.vmap(function, **options)(h)


def attention(h, other):
    return jax.nn.softmax(h @ other.T) @ other


@jax.custom_jvp
def centred(h):
    return h - h.mean(0, keepdims=True)


centred.defjvp(lambda x, t: (centred(*x), centred(*t)))


def spread_of_groups(h):
    """Minibatch standard deviation, as of StyleGAN."""
    spread = h.reshape(2, B // 2, B).std(0).mean(1, keepdims=True)
    return jnp.concatenate([h, jnp.tile(spread, (2, 1))], 1)[:, 1:]


def till_small(h):
    return lax.while_loop(lambda h: jnp.abs(h).max() > 0.1, lambda h: h / 2, h)


MIXED = {
    "attention": lambda h: attention(h, h),
    "attention by a map": lambda h: lax.map(lambda row: attention(row[None], h)[0], h),
    "gram": lambda h: h @ h.T,
    "distances": lambda h: ((h[:, None] - h[None]) ** 2).sum(-1),
    "transposed": lambda h: h + h.T,
    "roll": lambda h: h + jnp.roll(h, 1, 0),
    "tokens of others": lambda h: h[(jnp.arange(B) + 1) % B, h.argmax(1)][:, None] + h,
    "a token of others": lambda h: h[np.arange(B)[::-1], [1] * B][:, None] + h,
    "the first's tokens": lambda h: h[jnp.zeros(B, int), h.argmax(1)][:, None] + h,
    "along others": lambda h: h + jnp.take_along_axis(h, jnp.arange(B * B).reshape(B, B) % B, 0),
    "set of others": lambda h: h + h.at[jnp.arange(B)[::-1], h.argmax(1)].set(h[:, 0]),
    "summed by others": lambda h: h + jnp.zeros_like(h).at[jnp.arange(B)[::-1]].add(h),
    "permutation": lambda h: h + h[np.random.default_rng(0).permutation(B)],
    "chosen": lambda h: h + h[h.argmax(1)],
    "sent": lambda h: h.at[h.argmax(1)].add(h),
    "first mean": lambda h: h - h[0].mean(),
    "halves": lambda h: jnp.tile(h[: B // 2] - h[B // 2 :], (2, 1)) + h,
    "shift": lambda h: h + jnp.concatenate([jnp.zeros((1, B)), h[:-1]]),
    "sort": lambda h: h + jnp.sort(h, 0),
    "cumsum": lambda h: h + jnp.cumsum(h, 0),
    "cumlogsumexp": lambda h: h + lax.cumlogsumexp(h, 0),
    "first": lambda h: h - h[:1],
    "flip": lambda h: h + h[::-1],
    "top_k": lambda h: h - lax.top_k(h.T, B)[0].T,
    "softmax": lambda h: jax.nn.softmax(h, 0),
    "fft": lambda h: h + jnp.fft.fft(h, axis=0).real,
    "window": lambda h: h + lax.reduce_window(h, 0.0, lax.add, (3, 1), (1, 1), "SAME"),
    "qr": lambda h: h + jnp.linalg.qr(h + jnp.eye(B))[0],
    "svd": lambda h: h + jnp.linalg.svd(h, full_matrices=False)[0],
    "eigh": lambda h: h + jnp.linalg.eigh(h + h.T)[1],
    "solved by columns": lambda h: h + solved(jnp.eye(B) + jnp.tri(B), h),
    "swapped halves": lambda h: h + jnp.concatenate(jnp.split(h, 2)[::-1]),
    "pmean": each(lambda h: h - lax.pmean(h, "b"), axis_name="b"),
    "pmax": each(lambda h: h - lax.pmax(h, "b"), axis_name="b"),
    "all_gather": each(lambda h: h - lax.all_gather(h, "b").mean(0), axis_name="b"),
    "ppermute": each(
        lambda h: h + lax.ppermute(h, "b", [(i, (i + 1) % B) for i in range(B)]), axis_name="b"
    ),
    "groups": spread_of_groups,
    "some groups": lambda h: h + jnp.tile(h.reshape(3, 2, B)[:1].reshape(2, B), (3, 1)),
    "ghosts": lambda h: h - h.reshape(3, 2, B).mean(1).repeat(2, 0),
    "a custom gradient": centred,
    "a turn": lambda h: lax.fori_loop(0, 3, lambda _, h: h - h.mean(0, keepdims=True), h),
    "samples in turn": lambda h: lax.scan(lambda s, row: (0.9 * s + row,) * 2, jnp.zeros(B), h)[1],
    "a branch": lambda h: lax.cond(h.shape[0] > jnp.ones(()), centred, jnp.sin, h),
    "till all are small": till_small,
}  # fmt: skip


def solved(a, b):
    return jax.scipy.linalg.solve_triangular(a, b, lower=True)


def filled(h):
    """A loop over features, whose result begins as zeros."""
    step = lambda i, out: lax.dynamic_update_slice(out, h[:, :1] * i, (0, i))  # noqa: E731
    return lax.fori_loop(0, B, step, jnp.zeros_like(h))


def folded_look_up(h):
    """Neighbours of each sample's own points, as of DGCNN."""
    index = jnp.argsort(h, 1) + B * jnp.arange(B)[:, None]
    return h.reshape(-1)[index.reshape(-1)].reshape(B, B)


def windows(h):
    rows = h.reshape(B, 2, 3).swapaxes(0, 1).reshape(2 * B, 3)
    return jax.nn.softmax(rows).reshape(2, B, 3).swapaxes(0, 1).reshape(B, B)


ALONE = {
    "channels": lambda h: h - h.mean(1, keepdims=True),
    "outer": lambda h: jnp.einsum("bi,bj,bj->bi", h, h, h),
    "matrices": lambda h: jnp.einsum("bij,bj->bi", h[:, :, None] * h[:, None], h),
    "attention": each(lambda row: attention(row.reshape(2, 3), row.reshape(2, 3)).reshape(B)),
    "kernels": each(lambda row: jnp.convolve(row, row[:3], "same")),
    "kernels alone": lambda h: each(lambda row: jnp.convolve(jnp.ones(B), row[:3], "same"))(h),
    "a token a sample": lambda h: h[jnp.arange(B), h.argmax(1)][:, None] + h,
    "set": lambda h: h.at[:, 1].add(h[:, 2]).at[jnp.arange(B), h.argmax(1)].set(h[:, 0]),
    "a token": lambda h: h[jnp.arange(B), 2][:, None] + h[np.arange(B), [1] * B, None] + h,
    "a folded token": lambda h: h + h.repeat(2, 0)[1 + 2 * jnp.arange(B), h.argmax(1)][:, None],
    "tokens in rows": lambda h: h[np.arange(B).repeat(B), [*range(B)] * B].reshape(B, B),
    "along a constant": lambda h: jnp.take_along_axis(h, jnp.full((B, B), 2), 1),
    "along rows": lambda h: jnp.take_along_axis(h, np.arange(B).repeat(B).reshape(B, B), 0),
    "summed by sample": lambda h: jnp.zeros_like(h).at[np.arange(B).repeat(2)].add(h.repeat(2, 0)),
    "along": lambda h: jnp.take_along_axis(h, jnp.argsort(h, 1), 1),
    "sort": lambda h: jnp.sort(h, 1) + jnp.cumsum(h, 1) + lax.cumlogsumexp(h, 1) + h[:, ::-1],
    "top_k": lambda h: lax.top_k(h, B)[0] * jax.nn.one_hot(h.argmax(1), B),
    "fft": lambda h: jnp.fft.fft(h).real,
    "window": lambda h: lax.reduce_window(h, 0.0, lax.add, (1, 3), (1, 1), "SAME"),
    "tile": lambda h: jnp.tile(h, (2, 1))[:B],
    "named": each(lambda h: h * lax.axis_size("b") + lax.axis_index("b"), axis_name="b"),
    "a map": lambda h: lax.map(jax.nn.softmax, h),
    "a map by groups": lambda h: lax.map(jax.nn.softmax, h, batch_size=2),
    "a map by uneven groups": lambda h: lax.map(jax.nn.softmax, h, batch_size=4),
    "one by one": lambda h: jnp.stack([jax.nn.softmax(h[i]) for i in range(B)]),
    "groups": lambda h: jax.nn.softmax(h.reshape(3, 2, B)).reshape(B, B),
    "turns": lambda h: lax.scan(lambda s, row: (0.9 * s + row,) * 2, jnp.zeros(B), h.T)[1].T,
    "till": each(till_small),
    "filled": filled,
    "folded look-up": folded_look_up,
    "windows": windows,
    "a branch": lambda h: lax.cond(h.shape[0] > jnp.ones(()), jnp.cos, jnp.sin, h),
    "halves": lambda h: jnp.concatenate(jnp.split(h, 2)),
    "parts": lambda h: jnp.concatenate(jnp.split(h, [1, 4])),
    "qr": each(lambda row: jnp.linalg.qr(row.reshape(2, 3))[0].repeat(2)[:B]),
    "svd": each(lambda row: row[0] * jnp.linalg.svd(row.reshape(2, 3))[2][0].repeat(2)),
    "solved by rows": lambda h: solved(jnp.eye(B) + jnp.tri(B), h.T).T,
    "linalg": lambda h: jnp.linalg.inv(h[:, :, None] * h[:, None] + jnp.eye(B)[None])[..., 0],
}  # fmt: skip


def traced(function, num=B):
    """The coverage of a model whose layers stand before and behind a function."""
    weights = np.random.default_rng(0).normal(size=(2, B, B)).astype("float32")

    def model(params, x):
        return function(x @ params["a"]) @ params["o"]

    network = models.Function(model)({"params": {"a": weights[0], "o": weights[1]}}, "frozen")
    return Coverage.of(Program.trace(network, jnp.ones((num, B))), "frozen")


@pytest.mark.parametrize("name", MIXED)
def test_mixed(name):
    assert traced(MIXED[name]).mixed


@pytest.mark.parametrize("name", ALONE)
def test_not_mixed(name):
    assert traced(ALONE[name]).mixed == ()


@pytest.mark.parametrize("num", [B, 1])
def test_what_a_loop_carries_is_followed(num):
    """A fast-weight memory, all of whose axes have one size: the samples are its second's first."""

    def memory(h):
        rows = jnp.moveaxis(h[:, :, None] * jnp.eye(B)[None], 1, 0)  # [T, B, D]
        step = lambda m, row: (0.9 * m + row[:, :, None] * row[:, None], m[:, 0])  # noqa: E731
        m, before = lax.scan(step, h[:, :, None] * h[:, None], rows)
        return m.sum(1) + before.sum(0)

    assert traced(memory, num).mixed == ()


@pytest.mark.parametrize(
    ("size", "what"), [(2, r"\(3, 2, 6\) holds the samples in two"), (4, r"holds only some of the")]
)
def test_samples_that_are_parted_are_refused(size, what):
    model = lambda p, x: lax.map(lambda row: row @ p["a"], x, batch_size=size)  # noqa: E731
    with pytest.raises(ValueError, match=f"{what} .*`lax.map` without `batch_size`"):
        lswag_jax.explain_model(model, {"a": jnp.ones((B, 3))}, jnp.ones((B, B)))
