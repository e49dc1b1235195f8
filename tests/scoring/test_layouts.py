"""One function written in several ways has one score: layouts, loops, shared and narrow weights."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import lswag_jax
from lswag_jax import proxies, spaces
from lswag_jax.capture import adapters, tape
from lswag_jax.scoring import ScoreOptions
from lswag_jax.spaces import layers

B = 4
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(B, 5, 4, 3)), np.arange(B) % 3
TOKENS = RNG.normal(size=(B, 5, 4))
relu = jax.nn.relu


def parameters(**shapes):
    rng = np.random.default_rng(5)
    return {name: jnp.asarray(rng.normal(size=shape) / 2) for name, shape in shapes.items()}


def scores(function, params, images, names):
    chosen = [proxies.get(n, **({"batch": 4} if n in ("intrain", "vkdnw") else {})) for n in names]
    table = lswag_jax.score_model(function, params, images, LABELS, chosen, seed=3)
    assert {status for name in names for status in table.statuses[name]} == {"ok"}
    return {name: float(table.raw[name][0]) for name in names}


def conv(x, kernel, layout=("NHWC", "HWIO", "NHWC")):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


def channels_last(p, x):
    x = relu(conv(x, p["a"]) + p["bias"].reshape(1, 1, 1, -1))
    return relu(conv(x, p["b"])).mean((1, 2)) @ p["h"]


def channels_first(p, x):
    layout = ("NCHW", "OIHW", "NCHW")
    a, b = (p[name].transpose(3, 2, 0, 1) for name in "ab")
    x = relu(conv(x.transpose(0, 3, 1, 2), a, layout) + p["bias"][None, :, None, None])
    return relu(conv(x, b, layout)).mean((2, 3)) @ p["h"]


def sample_by_sample(p, x):
    return jax.vmap(lambda image: channels_last(p, image[None])[0])(x)


def features_last(p, x):
    x = relu(x @ p["a"])
    return relu(x @ p["b"]).mean((1, 2)) @ p["h"]


def features_first(p, x):
    x = relu(jnp.einsum("bhwc,cd->bdhw", x, p["a"]))
    return relu(jnp.einsum("bchw,cd->bdhw", x, p["b"])).mean((2, 3)) @ p["h"]


@pytest.mark.parametrize("other", [channels_first, sample_by_sample, features_first])
def test_channels_are_found_wherever_they_lie(x64, other):
    is_dense = other is features_first
    one = features_last if is_dense else channels_last
    a, b = ((3, 6), (6, 4)) if is_dense else ((3, 3, 3, 6), (3, 3, 6, 4))
    params = parameters(a=a, b=b, bias=(6,), h=(4, 3))
    names = ("fisher", "meco", "dextr", "intrain", "vkdnw", "lswag")
    expected = scores(one, params, IMAGES, names)
    assert scores(other, params, IMAGES, names) == pytest.approx(expected, rel=1e-9)


def unrolled(p, x):
    x = x @ p["a"]
    for i in range(3):
        x = x + jnp.tanh(x @ p["s"][i])
    return x.mean(1) @ p["h"]


def scanned(p, x):
    x, _ = lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x @ p["a"], p["s"])
    return x.mean(1) @ p["h"]


def test_synflow_of_a_stack_of_weights(x64):
    params = parameters(a=(4, 6), s=(3, 6, 6), h=(6, 3))
    separate = {name: params[name] for name in "ah"} | {f"s{i}": params["s"][i] for i in range(3)}

    def apart(p, x):
        return unrolled(p | {"s": [p[f"s{i}"] for i in range(3)]}, x)

    expected = scores(apart, separate, TOKENS, ("synflow", "logsynflow"))
    for function in (unrolled, scanned):
        found = scores(function, params, TOKENS, ("synflow", "logsynflow"))
        assert found == pytest.approx(expected, rel=1e-9)


def test_fisher_of_a_weight_that_is_used_both_ways(x64):
    """Each direction has channels of its own: two layers with copies give the same."""
    params = parameters(m=(4, 6), h=(4, 3))

    def tied(p, x):
        return relu(relu(x @ p["m"]) @ p["m"].T).mean(1) @ p["h"]

    def apart(p, x):
        return relu(relu(x @ p["m"]) @ p["back"]).mean(1) @ p["h"]

    expected = scores(apart, params | {"back": params["m"].T}, TOKENS, ("fisher",))
    assert scores(tied, params, TOKENS, ("fisher",)) == pytest.approx(expected, rel=1e-9)


def test_weights_that_are_computed_with_other_arrays():
    """WeightNorm, LoRA and a permutation: proxies of a weight's place score them."""

    def normed(p, x):
        return p["g"][None] * p["w"] / jnp.linalg.norm(p["w"], axis=0, keepdims=True)

    def adapted(p, x):
        return p["w"] + p["a"] @ p["b"]

    def permuted(p, x):
        return p["w"][:, jnp.array([1, 0, 2, 3, 5, 4])]

    params = parameters(w=(4, 6), g=(6,), a=(4, 2), b=(2, 6), h=(6, 3))
    for weight, used in ((normed, "wgh"), (adapted, "wabh"), (permuted, "wh")):

        def model(p, x, weight=weight):
            return relu(x @ weight(p, x)).mean(1) @ p["h"]

        own = {name: params[name] for name in used}
        assert np.isfinite(scores(model, own, TOKENS, ("vkdnw", "fisher"))["vkdnw"])


def test_a_model_of_integers_has_no_scores_of_noise():
    def model(p, tokens):
        return jax.nn.gelu(p["table"][tokens] @ p["a"]).mean(1) @ p["h"]

    params = parameters(table=(7, 4), a=(4, 6), h=(6, 3))
    names = ["jacov", "epe_nas", "meco", "dextr", "intrain", "vkdnw", "lswag", "snip"]
    table = lswag_jax.score_model(model, params, RNG.integers(0, 7, (B, 5)), LABELS, names)
    found = {name: table.statuses[name][0] for name in names}
    ok = dict.fromkeys(["lswag", "snip"], "ok")
    assert found == dict.fromkeys(names[:6], "not_applicable") | ok


def test_narrow_floats():
    """A model that computes in bfloat16 has nearly the scores of one that does not."""

    class Net(nn.Module):
        dtype: type

        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(6, (3, 3), dtype=self.dtype)(x))
            return nn.Dense(3, dtype=self.dtype)(x.mean((1, 2)))

    images = IMAGES.astype(np.float32)
    params = Net(jnp.float32).init(jax.random.key(0), images)
    names = ("nwot", "meco", "dextr", "fisher", "lswag", "snip")
    wide, narrow = (scores(Net(t), params, images, names) for t in (jnp.float32, jnp.bfloat16))
    assert narrow == pytest.approx(wide, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentsemantic", "autoencoder"])
def test_a_decoder_has_the_same_layers_in_float64(x64, task):
    small = {"width": 4, "image_size": 32, "decoder_width": 64}
    space = spaces.get("transnas_micro", task=task, **small)
    (g,) = space.sample(np.random.default_rng(0), 1)
    module = space.build(g)
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *space.image_shape)))
    units = []
    for dtype in (np.float32, np.float64):
        own = jax.tree.map(lambda v, dtype=dtype: np.zeros(v.shape, dtype), variables)
        network = adapters.linen_network(module, own)
        layers = tape.record(network, jnp.zeros((2, *space.image_shape), dtype)).layers
        units.append([layer.calls[0].output_units for layer in layers])
    assert units[0]
    assert units[0] == units[1]


def test_a_loss_is_any_hashable_callable():
    options = ScoreOptions(loss=functools.partial(tape.cross_entropy))
    assert options.describe()["loss"] == "partial"

    class Loss(list):
        def __call__(self, logits, labels):
            return tape.cross_entropy(logits, labels)

    with pytest.raises(ValueError, match="loss must be hashable, got an unhashable"):
        ScoreOptions(loss=Loss())


BIASED = ("fisher", "intrain", "lswag", "snip", "zico")


def rows_of_a_squeezed_sample(p, x):
    """A sample by itself with an axis of one that goes before the bias is added."""
    features = jax.vmap(lambda s: relu(jnp.squeeze(s.mean(0)[None] @ p["w"], 0) + p["b"]))(x)
    return features @ p["h"]


def with_an_axis_of_one(p, x):
    y = (x.mean(1) @ p["w"])[:, None, :] + p["b"][None, None]
    return relu(y)[:, 0] @ p["h"]


def in_another_precision(p, x):
    return relu((x.mean(1) @ p["w"]).astype(jnp.float64) + p["b"][None]) @ p["h"]


def plainly(p, x):
    return relu(x.mean(1) @ p["w"] + p["b"][None]) @ p["h"]


@pytest.mark.parametrize(
    "other", [rows_of_a_squeezed_sample, with_an_axis_of_one, in_another_precision]
)
def test_a_bias_is_one_however_it_is_added(x64, other):
    dtype = jnp.float32 if other is in_another_precision else jnp.float64
    params = parameters(w=(4, 6), b=(6,), h=(6, 3))
    of = {k: v.astype(dtype) for k, v in params.items()}
    tokens = TOKENS.astype(dtype)
    expected = scores(plainly, of, tokens, BIASED)
    rel = 1e-9 if dtype == jnp.float64 else 1e-4
    assert scores(other, of, tokens, BIASED) == pytest.approx(expected, rel=rel)


def stored_with_an_axis_of_one(p, x):
    return relu(x.mean(1) @ p["w"] + p["b"]) @ p["h"]


def subtracted(p, x):
    return relu(x.mean(1) @ p["w"] - p["b"][None]) @ p["h"]


@pytest.mark.parametrize("other", [stored_with_an_axis_of_one, subtracted])
def test_a_bias_is_one_however_it_is_stored(x64, other):
    params = parameters(w=(4, 6), b=(6,), h=(6, 3))
    expected = scores(plainly, params, TOKENS, BIASED)
    own = params["b"][None] if other is stored_with_an_axis_of_one else -params["b"]
    assert scores(other, params | {"b": own}, TOKENS, BIASED) == pytest.approx(expected, rel=1e-9)


def time_first(p, x):
    """Frames first, samples along the second axis; a reduction in the vmap."""

    def one(s):
        return (relu(s.mean(0) @ p["w"] + p["b"][None]) @ p["h"]).mean(0)

    return jax.vmap(one, in_axes=1)(x.swapaxes(0, 1))


def frames(p, x):
    return (relu(x.mean(1) @ p["w"] + p["b"][None, None]) @ p["h"]).mean(1)


@pytest.mark.parametrize("tokens", [5, 8, 16])
def test_a_reduction_inside_a_vmap(x64, tokens):
    videos = np.random.default_rng(0).normal(size=(B, 3, tokens, 4))
    params = parameters(w=(4, 6), b=(6,), h=(6, 3))
    names = ("lswag", "snip", "zico", "fisher", "gradsign", "swap")
    expected = scores(frames, params, videos, names)
    assert scores(time_first, params, videos, names) == pytest.approx(expected, rel=1e-9)


def experts_mapped(p, x):
    each = jax.vmap(lambda w, b: relu(x.mean(1) @ w + b[None]))(p["w"], p["b"])
    return each.sum(0) @ p["h"]


def experts_apart(p, x):
    y = [relu(x.mean(1) @ w + b[None]) for w, b in zip(p["w"], p["b"], strict=True)]
    return sum(y) @ p["h"]


def test_experts_have_biases_of_their_own(x64):
    params = parameters(w=(3, 4, 6), b=(3, 6), h=(6, 3))
    expected = scores(experts_apart, params, TOKENS, BIASED)
    assert scores(experts_mapped, params, TOKENS, BIASED) == pytest.approx(expected, rel=1e-9)


def test_one_bias_of_two_layers(x64):
    """It is a parameter tensor once, and its gradient is the sum of both."""

    def shared(p, x):
        bias = p["b"][None, None]
        return relu(relu(x @ p["a"] + bias) @ p["c"] + bias).mean(1) @ p["h"]

    def loss(p):
        return -jax.nn.log_softmax(shared(p, TOKENS))[jnp.arange(B), LABELS].mean()

    params = parameters(a=(4, 6), c=(6, 6), b=(6,), h=(6, 3))
    draws = {"intrain/images": TOKENS, "intrain/labels": LABELS}
    intrain = proxies.get("intrain", batch=B)
    table = lswag_jax.score_model(shared, params, TOKENS, LABELS, [intrain], draws=draws)
    expected = sum(
        min(1, g.std() / (abs(g).max() + 1e-10)) for g in jax.grad(loss)(params).values()
    )
    assert float(table.parts["intrain"]["resilience"][0]) == pytest.approx(
        float(expected), rel=1e-9
    )


class Block(nn.Module):
    """A convolution, a BatchNorm and a marked feature map."""

    has_norm: bool = True

    @nn.compact
    def __call__(self, x, _=None):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=True)(x) if self.has_norm else x
        return layers.Feature(name="map")(nn.relu(x)), None


class Marked(nn.Module):
    """Three blocks: called, called again in the backward pass, in a scan, or sample by sample."""

    how: str
    has_norm: bool = True

    @nn.compact
    def __call__(self, x):
        x, kinds = nn.Conv(4, (3, 3))(x), ("params", "batch_stats")
        if self.how == "scanned":
            stacked, rngs = dict.fromkeys(kinds, 0), {"params": True}
            blocks = nn.scan(Block, variable_axes=stacked, split_rngs=rngs, length=3)
            x, _ = blocks(self.has_norm, name="blocks")(x, None)
        for i in range(0 if self.how == "scanned" else 3):
            block = nn.remat(Block) if self.how == "again" else Block
            if self.how == "mapped":
                block = nn.vmap(Block, variable_axes=dict.fromkeys(kinds))
            x, _ = block(self.has_norm, name=f"block_{i}")(x)
        return nn.Dense(3)(layers.Feature(final=True)(x).mean((1, 2)))


FEATURES = ("zen", "az_expressivity", "az_progressivity", "az_trainability")


def of_maps(model, variables):
    options = {"zen": {"init": "space"}}
    names = FEATURES if model.has_norm else FEATURES[1::2]
    chosen = [proxies.get(name, batch=4, **options.get(name, {})) for name in names]
    table = lswag_jax.score_model(model, variables, IMAGES, LABELS, chosen, seed=3)
    assert {table.statuses[name][0] for name in names} == {"ok"}
    return {name: float(table.raw[name][0]) for name in names}


@pytest.mark.parametrize("how", ["again", "scanned", "mapped"])
def test_feature_maps_are_seen_inside(x64, how):
    has_norm = how != "mapped"  # a BatchNorm of single samples is refused
    plain = Marked("plain", has_norm)
    shapes = jax.eval_shape(plain.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(5)
    variables = jax.tree.map(lambda s: jnp.asarray(rng.random(s.shape) - 0.3), shapes)
    names = [f"block_{i}" for i in range(3)]

    def stacked(tree):
        rest = {name: own for name, own in tree.items() if name not in names}
        return rest | {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *(tree[n] for n in names))}

    expected = of_maps(plain, variables)
    if how == "scanned":
        variables = {kind: stacked(tree) for kind, tree in variables.items()}
    assert of_maps(Marked(how, has_norm), variables) == pytest.approx(expected, rel=1e-9)
