"""The tape: capture from outside, and per-sample gradients against jax.grad."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lswag_jax.capture import adapters, models, tape
from lswag_jax.spaces.macs import count_macs
from tests.helpers.batches import Batch

SAMPLES = 6


class Mixed(nn.Module):
    """Strided, grouped and dilated convolutions, BatchNorm, attention, remat and a shared layer."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(8, (3, 3), strides=2)(x)))
        x = nn.gelu(nn.Conv(8, (3, 3), feature_group_count=4, kernel_dilation=2)(x))
        x = x.reshape(x.shape[0], -1, 8)
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(2)(x, x))
        shared = nn.Dense(8, name="shared")
        x = nn.Dropout(0.5, deterministic=not train)(shared(nn.tanh(shared(x))))
        x = nn.silu(nn.remat(nn.Dense)(16, name="remat")(x))
        x = nn.gelu(nn.DenseGeneral((2, 4), name="general")(x), approximate=False)
        return nn.Dense(5, name="head")(x.reshape(*x.shape[:2], -1).mean(1))


class MixedNnx(nnx.Module):
    """The same ideas in NNX."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)
        self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x))).reshape(x.shape[0], -1, 8)
        x = self.attention(x)
        for layer in (*self.layers, self.layers[0]):
            x = nnx.gelu(layer(self.dropout(x)))
        return self.head(x.mean(1))


@pytest.fixture(scope="module")
def batch():
    images = jax.random.normal(jax.random.key(0), (SAMPLES, 8, 8, 3))
    return Batch(images, jnp.arange(SAMPLES) % 5)


def no_hook(name, kind, apply, params, inputs, extra, output):
    return output


def check_gradients(network, weights, lookup, images, labels):
    """Every layer's gradient of single samples equals jax.grad's, biases and norms included."""

    @jax.jit
    def ours(weights):
        recorded = tape.record(network(weights), images, labels)
        return {
            layer.name: [
                layer.gradient(
                    list(layer.params),
                    [(c.inputs[i : i + 1], c.cotangent[i : i + 1]) for c in layer.calls],
                )
                for i in (0, 3)
            ]
            for layer in recorded.layers + recorded.norms
        }

    @jax.jit
    def losses(weights):
        return tape.cross_entropy(network(weights)(images, no_hook), labels)[jnp.array([0, 3])]

    expected = jax.jacrev(losses)(weights)
    found = ours(weights)
    for name, singles in found.items():
        reference = lookup(expected, name)
        for i, gradients in enumerate(singles):
            for key, value in gradients.items():
                np.testing.assert_allclose(value, reference[key][i], atol=2e-6, err_msg=name)
    return found


def test_linen(batch):
    images, labels = batch
    module = Mixed()
    variables = jax.jit(module.init, static_argnums=2)(jax.random.key(1), images, False)

    def network(params):
        return adapters.linen_network(
            module, {"params": params, "batch_stats": variables["batch_stats"]}
        )

    def lookup(grads, name):
        for key in name.split("/"):
            grads = grads[key]
        return grads

    found = check_gradients(network, variables["params"], lookup, images, labels)
    recorded = tape.record(network(variables["params"]), images)
    layers = [layer.name for layer in recorded.layers]
    assert layers == [
        *("Conv_0", "Conv_1", "MultiHeadDotProductAttention_0/query"),
        *("MultiHeadDotProductAttention_0/key", "MultiHeadDotProductAttention_0/value"),
        *("MultiHeadDotProductAttention_0/out", "shared", "remat", "general", "head"),
    ]
    assert set(found) == {*layers, "BatchNorm_0", "LayerNorm_0"}
    assert [a.num_layers_before for a in recorded.activations] == [1, 2, 7, 8, 9]
    assert [len(layer.calls) for layer in recorded.layers].count(2) == 1
    exact = recorded.activations[4]
    dense = recorded.layers[8].calls[0]
    pre = dense.apply(dense.params, dense.inputs, dense.extra)
    np.testing.assert_allclose(exact.post, nn.gelu(pre, approximate=False), atol=1e-6)
    np.testing.assert_array_equal(
        recorded.activations[0].post > 0, recorded.activations[0].post != 0
    )


class OneActivation(nn.Module):
    activation: Callable

    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(self.activation(nn.Dense(8, name="first")(x.mean((1, 2)))))


def gelu_by_hand(x):
    return 0.5 * x * (1 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "activation",
    [nn.gelu, jax.jit(nn.gelu), jax.checkpoint(nn.gelu), gelu_by_hand, nn.tanh,
     lambda x: jnp.tanh(2 * (x + 0.1 * x**2)), lambda x: jnp.tanh(0.1 * x), nn.silu],
)  # fmt: skip
def test_activations_are_recorded_as_they_are(batch, activation, dtype):
    """Approximate GELU is a chain of primitives with a tanh in it, which is not its output."""
    images = batch.images.astype(dtype)
    module = OneActivation(activation)
    variables = module.init(jax.random.key(1), images)
    variables = jax.tree.map(lambda v: v.astype(dtype), variables)
    recorded = tape.record(adapters.linen_network(module, variables), images)
    (found,) = recorded.activations
    first = recorded.layers[0].calls[0]
    expected = activation(first.apply(first.params, first.inputs, first.extra))
    tolerance = {"rtol": 1e-2 if dtype == jnp.bfloat16 else 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(*(np.float32(a) for a in (found.post, expected)), **tolerance)


def test_nnx(batch):
    images, labels = batch
    model = MixedNnx(nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def network(params):
        return adapters.nnx_network(nnx.merge(graph, params, rest))

    def lookup(grads, name):
        grads = nnx.to_pure_dict(grads)
        for key in name.split("/"):
            grads = grads[int(key) if key.isdigit() else key]
        return grads

    found = check_gradients(network, params, lookup, images, labels)
    assert set(found) == {
        *("conv", "attention/query", "attention/key", "attention/value", "attention/out"),
        *("layers/0", "layers/1", "head", "norm"),
    }
    assert type(model.conv) is nnx.Conv


def test_batch_norm_modes(batch):
    images, _ = batch
    module = Mixed()
    variables = jax.jit(module.init, static_argnums=2)(jax.random.key(1), images, False)
    shifted = jax.tree.map(lambda s: s + 0.5, variables["batch_stats"])
    variables = variables | {"batch_stats": shifted}

    def logits(mode, images=images):
        return adapters.linen_network(module, variables, batch_norm=mode)(images, no_hook)

    np.testing.assert_allclose(logits("eval"), module.apply(variables, images, False), atol=1e-6)
    np.testing.assert_allclose(logits("frozen"), logits("through"), atol=1e-6)
    alone = [logits("through", images[i : i + 1])[0] for i in range(len(images))]
    np.testing.assert_allclose(logits("batch1_train"), np.stack(alone), atol=1e-5)
    assert np.abs(logits("frozen") - logits("eval")).max() > 1e-3

    def grad(mode):  # of sample 0's loss with respect to sample 1's pixels
        return jax.grad(lambda x: logits(mode, x)[0].sum())(images)[1]

    assert np.abs(grad("frozen")).max() == 0
    assert np.abs(grad("batch1_train")).max() == 0
    assert np.abs(grad("through")).max() > 0
    with pytest.raises(ValueError, match="batch_norm must be one of"):
        models.split(module, variables, batch_norm="batch")


def test_first_layer_prunes_the_backward_pass(batch):
    """With a window no cotangent exists below it, and fewer products are computed."""
    images, labels = batch
    module = Mixed()
    variables = jax.jit(module.init, static_argnums=2)(jax.random.key(1), images, False)
    network = adapters.linen_network(module, variables)

    def run(first_layer, images):
        recorded = tape.record(network, images, labels, first_layer=first_layer)
        return [call.cotangent for layer in recorded.layers for call in layer.calls]

    cotangents = run(lambda n: n - 3, images)
    assert [c is None for c in cotangents] == [True] * 8 + [False] * 3
    for full, cut in zip(run(0, images)[8:], cotangents[8:], strict=True):
        np.testing.assert_allclose(full, cut, atol=1e-7)
    forward = count_macs(lambda x: network(x, no_hook), images)
    assert count_macs(lambda x: run(lambda n: n - 1, x), images) < 1.1 * forward
    assert count_macs(lambda x: run(0, x), images) > 1.8 * forward


def test_nothing_captured(batch):
    class Bare(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x.mean((1, 2)) * self.param("scale", nn.initializers.ones, (1, 3))

    variables = Bare().init(jax.random.key(0), batch.images)
    with pytest.raises(ValueError, match="no weight layer was captured"):
        tape.record(adapters.linen_network(Bare(), variables), *batch)


def test_layers_in_a_scan(batch):
    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            class Step(nn.Module):
                @nn.compact
                def __call__(self, carry, _):
                    return nn.relu(nn.Dense(5)(carry)), None

            scan = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return scan()(nn.Dense(5)(x.mean((1, 2))), None)[0]

    variables = Scanned().init(jax.random.key(0), batch.images)
    recorded = tape.record(adapters.linen_network(Scanned(), variables), *batch)
    stack = "ScanStep_0/Dense_0"
    assert [x.name for x in recorded.layers] == ["Dense_0", *(f"{stack}[{i}]" for i in range(3))]
    assert [a.num_layers_before for a in recorded.activations] == [2, 3, 4]


def test_layers_in_a_loop_of_unknown_length_are_named(batch):
    def network(params, x):
        def more(state):
            return state[1] < 3 + (x.sum() > 0)

        def step(state):
            return state[0] @ params["w"], state[1] + 1

        return jax.lax.while_loop(more, step, (x.mean((1, 2)), 0))[0]

    make = models.Function(network)
    with pytest.raises(ValueError, match="inside of a 'while' that depends on data"):
        tape.record(make({"params": {"w": jnp.eye(3)}}, "frozen"), *batch)
