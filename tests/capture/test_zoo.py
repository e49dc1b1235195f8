"""Small models in the styles of the field: every stored weight's gradient, whatever its way in."""

import ast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lswag_jax
from lswag_jax.capture import models, tape
from lswag_jax.capture.coverage import Coverage
from lswag_jax.capture.network import leaves
from lswag_jax.capture.record import Program
from lswag_jax.probe import patterns

B, CLASSES = 5, 3
LABELS = np.arange(B) % CLASSES
SEEN = []  # outputs of activations as the models below hand them out, samples first


def seen(post, samples_first=lambda post: post):
    """An activation's output as it is, kept."""
    SEEN.append(samples_first(post))
    return post


class ResNet(nn.Module):
    """BatchNorm, strided and shortcut convolutions."""

    @nn.compact
    def __call__(self, x, train=False):
        norm = lambda: nn.BatchNorm(use_running_average=not train)  # noqa: E731
        x = seen(nn.relu(norm()(nn.Conv(4, (3, 3), use_bias=False)(x))))
        y = seen(nn.relu(norm()(nn.Conv(6, (3, 3), strides=2, use_bias=False)(x))))
        y = norm()(nn.Conv(6, (3, 3), use_bias=False)(y))
        x = seen(nn.relu(y + norm()(nn.Conv(6, (1, 1), strides=2, use_bias=False)(x))))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class EfficientNet(nn.Module):
    """An inverted bottleneck with a depthwise convolution, squeeze and excitation."""

    @nn.compact
    def __call__(self, x, train=False):
        def conv(x, features, size, **options):
            x = nn.Conv(features, (size, size), use_bias=False, **options)(x)
            return nn.BatchNorm(use_running_average=not train)(x)

        x = seen(nn.swish(conv(x, 4, 3, strides=2)))
        y = seen(nn.swish(conv(x, 8, 1)))
        y = seen(nn.swish(conv(y, 8, 3, feature_group_count=8)))
        gate = seen(nn.swish(nn.Conv(2, (1, 1))(y.mean((1, 2), keepdims=True))))
        y = y * nn.sigmoid(nn.Conv(8, (1, 1))(gate))
        x = nn.Dropout(0.5, deterministic=not train)(conv(y, 4, 1)) + x
        return nn.Dense(CLASSES)(seen(nn.swish(conv(x, 6, 1))).mean((1, 2)))


class VitBlock(nn.Module):
    """Attention and MLP; of `nn.scan`'s form."""

    gelu: str = "tanh"

    @nn.compact
    def __call__(self, x, _=None):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(2)(y, y)
        h = nn.Dense(12)(nn.LayerNorm()(x))
        h = h * nn.sigmoid(1.702 * h) if self.gelu == "quick" else nn.gelu(h)
        return x + nn.Dense(x.shape[-1])(h), h


class Vit(nn.Module):
    """Patches, a class token, positions, blocks in a loop or a scan, and a tuple of outputs."""

    scan: bool
    gelu: str = "tanh"

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), strides=4)(x).reshape(len(x), -1, 8)
        cls = self.param("cls", nn.initializers.normal(1.0), (1, 1, 8))
        x = jnp.concatenate([jnp.broadcast_to(cls, (len(x), 1, 8)), x], 1)
        x = x + self.param("pos", nn.initializers.normal(1.0), (1, *x.shape[1:]))
        if self.scan:
            block = nn.scan(
                nn.remat(VitBlock),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=2,
            )
            x, posts = block(self.gelu, name="blocks")(x, None)
            _ = [seen(post) for post in posts]
        else:
            for i in range(2):
                x, post = VitBlock(self.gelu, name=f"block{i}")(x)
                seen(post)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x)[:, 0]), {"tokens": x}


class Mixer(nn.Module):
    """Products along tokens and along channels, and LayerScale."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(6)(x.reshape(len(x), 16, -1))
        y = seen(nn.gelu(nn.Dense(10)(nn.LayerNorm()(x).swapaxes(1, 2))))
        y = nn.Dense(16)(y).swapaxes(1, 2)
        x = x + self.param("scale", nn.initializers.constant(0.1), (1, 1, 6)) * y
        x = x + nn.Dense(6)(seen(nn.silu(nn.Dense(9)(nn.RMSNorm()(x)))))
        return nn.Dense(CLASSES)(x.mean(1))


class Windows(nn.Module):
    """Windows on the samples' axis, before or behind the samples."""

    first: bool

    @nn.compact
    def __call__(self, x):
        b = len(x)
        x = x.reshape(b, 4, 16, 3)
        rows = x.reshape(b * 4, 16, 3) if self.first else x.swapaxes(0, 1).reshape(4 * b, 16, 3)
        rows = nn.relu(nn.Dense(6)(rows))
        seen(rows.reshape(b, -1) if self.first else rows.reshape(4, b, -1).swapaxes(0, 1))
        rows = rows.mean(1)
        x = rows.reshape(b, 4, 6) if self.first else rows.reshape(4, b, 6).swapaxes(0, 1)
        return nn.Dense(CLASSES)(nn.Dense(5)(x).reshape(b, -1))


class ClassAttention(nn.Module):
    """A learned query for all samples, as CaiT's and MAP's, and a gate over channels."""

    @nn.compact
    def __call__(self, x):
        x = seen(nn.relu(nn.Dense(8)(x.reshape(len(x), 16, -1))))
        x = x * nn.hard_sigmoid(nn.Dense(8)(x.mean(1, keepdims=True)))
        probe = self.param("probe", nn.initializers.normal(1.0), (1, 1, 8))
        probe = jnp.tile(probe, (len(x), 1, 1))
        return nn.Dense(CLASSES)(nn.MultiHeadDotProductAttention(2)(probe, x)[:, 0])


class Standardised(nn.Module):
    """Weight standardisation and GroupNorm."""

    @nn.compact
    def __call__(self, x):
        k = self.param("w", nn.initializers.lecun_normal(), (3, 3, 3, 6))
        k = (k - k.mean((0, 1, 2), keepdims=True)) / (k.std((0, 1, 2), keepdims=True) + 1e-5)
        x = jax.lax.conv_general_dilated(
            x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return nn.Dense(CLASSES)(seen(nn.relu(nn.GroupNorm(2)(x))).mean((1, 2)))


class Experts(nn.Module):
    """Experts by vmap, all on the same input or each on its own, mixed by a router."""

    own: bool

    @nn.compact
    def __call__(self, x):
        x = seen(nn.relu(nn.Dense(8)(x.reshape(len(x), -1))))
        gates = nn.softmax(nn.Dense(2, use_bias=False)(x))
        experts = nn.vmap(
            nn.Dense,
            in_axes=0 if self.own else None,
            out_axes=0,
            axis_size=2,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )(6, name="experts")
        y = experts(jnp.stack([x, 2 * x]) if self.own else x)
        y = seen(nn.relu(y), lambda post: post.swapaxes(0, 1))
        return nn.Dense(CLASSES)((y * gates.T[..., None]).sum(0))


class Tied(nn.Module):
    """Tokens in, and the table that they are looked up in as the head."""

    @nn.compact
    def __call__(self, ids):
        table = nn.Embed(7, 6)
        x = seen(nn.gelu(nn.Dense(6)(table(ids)), approximate=False)).mean(1)
        return nn.Dense(CLASSES)(seen(nn.tanh(table.attend(x))))


class Recurrent(nn.Module):
    """An LSTM over rows; what its cell hides is in its gates and its two tanh."""

    @nn.compact
    def __call__(self, x):
        cell = nn.OptimizedLSTMCell(6, param_dtype=x.dtype)
        rows = x.reshape(len(x), 4, -1)
        x = nn.RNN(cell)(rows)
        if not self.is_initializing():
            lstm_by_hand(cell.variables["params"], rows)
        return nn.Dense(CLASSES)(x[:, -1])


def lstm_by_hand(weights, rows):
    """Shows the outputs of every step's tanh."""
    h = c = jnp.zeros((len(rows), 6), rows.dtype)
    for i in range(rows.shape[1]):
        forget, let_in, new, out = (
            rows[:, i] @ weights[f"i{gate}"]["kernel"]
            + h @ weights[f"h{gate}"]["kernel"]
            + weights[f"h{gate}"]["bias"][None]
            for gate in "figo"
        )
        c = nn.sigmoid(forget) * c + nn.sigmoid(let_in) * seen(jnp.tanh(new))
        h = nn.sigmoid(out) * seen(jnp.tanh(c))


class WeightNormed(nn.Module):
    """A norm of the weights and low-rank additions to them."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        x = seen(nn.relu(nn.WeightNorm(nn.Dense(6))(x)))
        a = self.param("lora_a", nn.initializers.normal(0.3), (6, 2))
        b = self.param("lora_b", nn.initializers.normal(0.3), (2, 5))
        return nn.Dense(CLASSES)(seen(nn.relu(nn.Dense(5)(x) + x @ (a @ b))))


class Shared(nnx.Module):
    """One matrix twice, once transposed, in NNX."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.w = nnx.Param(jax.random.normal(rngs.params(), (48, 6)) / 7)
        self.out = nnx.Linear(48, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = seen(jnp.tanh(x.reshape(len(x), -1)[:, :48] @ self.w[...]))
        return self.out(seen(nnx.relu(x @ self.w.T)))


def bare(params, x):
    """A function of its own, with an einsum whose samples are last."""
    h = jnp.einsum("oi,bi->ob", params["first"], x.reshape(len(x), -1))
    h = seen(jnp.where(h > 0, h, 0.1 * h), jnp.transpose)
    return (params["second"] @ h + params["bias"][:, None]).T


def picture():
    return np.random.default_rng(0).normal(size=(B, 8, 8, 3))


def linen(module, x=None, **options):
    x = picture() if x is None else x
    variables = module.init(jax.random.key(1), x)
    return module, variables, x, options


def bare_case():
    draw = np.random.default_rng(1).normal
    params = {
        "first": draw(size=(7, 192)) / 9,
        "second": draw(size=(CLASSES, 7)),
        "bias": draw(size=3),
    }
    return bare, params, picture(), {}


FIRST = {"output": 0}
ZOO = {  # what builds it, the number of layers, units of the activations
    "resnet": (lambda: linen(ResNet()), 5, [256, 96, 96]),
    "efficientnet": (lambda: linen(EfficientNet()), 8, [64, 128, 128, 2, 96]),
    "vit": (lambda: linen(Vit(False), **FIRST), 14, [60, 60]),
    "vit scanned": (lambda: linen(Vit(True), **FIRST), 14, [60, 60]),
    "clip": (lambda: linen(Vit(True, "quick"), **FIRST), 14, [60, 60]),
    "mixer": (lambda: linen(Mixer()), 6, [60, 144]),
    "windows": (lambda: linen(Windows(True)), 3, [384]),
    "windows folded": (lambda: linen(Windows(False)), 3, [384]),
    "class attention": (lambda: linen(ClassAttention()), 7, [128]),
    "weight standardisation": (lambda: linen(Standardised()), 2, [96]),
    "experts": (lambda: linen(Experts(False)), 5, [8, 12]),
    "experts of their own": (lambda: linen(Experts(True)), 5, [8, 12]),
    "tied tokens": (lambda: linen(Tied(), np.arange(B * 4).reshape(B, 4) % 7), 3, [24, 7]),
    "lstm": (lambda: linen(Recurrent()), 9, [6] * 8),
    "weight norm and lora": (lambda: linen(WeightNormed()), 5, [6, 5]),
    "shared in nnx": (lambda: (Shared(), None, picture(), {}), 2, [6, 48]),
    "bare": (bare_case, 2, [7]),
}


TWINS = ("vit", "clip", "windows folded", "experts of their own")  # of another one of the zoo


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in TWINS else ()) for n in ZOO],
    ids=list(ZOO),
)
def test_gradients_and_patterns(x64, name):
    """Each sample's gradient of each layer, against jax.grad of that sample's own loss.

    And the number of patterns of each activation, against NumPy's of what the model hands out.
    """
    build, num_layers, units = ZOO[name]
    module, variables, x, options = build()
    model, weights = models.split(
        module, variables, batch_norm="eval", integers=x.dtype.kind == "i", **options
    )
    wide = lambda a: a.astype(np.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a  # noqa: E731
    weights, x = jax.tree.map(wide, weights), jnp.asarray(x)

    @jax.jit
    def ours(weights):
        recorded = tape.record(model.network(weights), x, LABELS)
        found = {}
        for layer in recorded.layers:
            pairs = [(c.inputs, c.cotangent) for c in layer.calls]
            one = lambda pairs, layer=layer: layer.gradient(  # noqa: E731
                ("kernel",), [(a[None], c[None]) for a, c in pairs]
            )["kernel"]
            key = (layer.calls[0].leaf, layer.calls[0].index)
            found["/".join(map(str, key))] = jax.vmap(one)(pairs)
        values = [patterns.units(a.post) for a in recorded.activations]
        sizes = [value.shape[1] for value in values]
        return found, patterns.count_each([patterns.pack(value) for value in values], sizes)

    @jax.jit
    def reference(weights):
        params, others, join = leaves(weights)

        def loss(params, x, y):
            logits = model.network(join(params, others))(x[None])
            return tape.cross_entropy(logits, y[None])[0]

        gradients = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, jnp.asarray(LABELS))
        SEEN.clear()
        model.network(weights)(x)
        return gradients, list(SEEN)

    (found, counts), (expected, posts) = ours(weights), reference(weights)
    assert len(found) == num_layers
    bits = [np.asarray(post).reshape(B, -1) > 0 for post in posts]
    assert [np.unique(one, axis=1).shape[1] for one in bits] == counts.tolist()
    for key, gradient in found.items():
        leaf, _, index = key.rpartition("/")
        full = expected[leaf] if leaf in expected else expected[f"{leaf}/kernel"]
        full = full[(slice(None), *ast.literal_eval(index))]
        np.testing.assert_allclose(gradient, full, atol=1e-9, rtol=1e-6, err_msg=key)
    program = Program.trace(model.network(weights), x)
    coverage = Coverage.of(program, "eval")
    assert coverage.share == 1, coverage.missed
    assert coverage.mixed == ()
    assert list(coverage.activations) == units


def test_explanation_and_its_place_in_the_table():
    module, variables, x, options = linen(Vit(True), **FIRST)
    found = lswag_jax.explain_model(module, variables, x.astype("f4"), **options)
    text = str(found)
    assert "100.0% of the weights are in 14 layers" in text
    assert "blocks/Dense_0[1]: 8 x 12" in text
    assert "tables and tokens, no weights: cls, pos" in text
    table = lswag_jax.score_model(module, variables, x.astype("f4"), LABELS, ("params",), **options)
    assert table.rows[0]["coverage"]["share"] == 1
