"""score_model of users' own networks: folded axes, shared and mapped layers, inputs, types."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lswag_jax
from lswag_jax.capture import adapters, tape

BATCH = 8
LABELS = np.arange(BATCH) % 3
BY_SAMPLE = ("lswag", "swap", "nwot", "gradsign", "fisher", "snip", "lswag_kernel", "t_cet", "ntk")


def images(*shape):
    return np.random.default_rng(0).normal(size=(BATCH, *shape)).astype(np.float32)


def check_equal(one, other, rtol=1e-4):
    for name in one:
        assert one.statuses[name][0] == "ok", name
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, err_msg=name)


class Windows(nn.Module):
    """A convolution and linear layers in four windows of a sample, or on [B * 4, ...]."""

    fold: bool
    norm: bool = True

    @nn.compact
    def __call__(self, x):
        b = len(x)
        x = x.reshape(b * 4, 4, 2, 3) if self.fold else x.reshape(b, 4, 4, 2, 3)
        x = nn.tanh(nn.Conv(6, (3, 3), strides=2, name="conv")(x))
        x = nn.LayerNorm(name="layer_norm")(nn.Dense(6, name="a")(x))
        if self.norm:
            x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = nn.gelu(nn.DenseGeneral((2, 3), name="b")(x))
        return nn.Dense(3, name="head")(x.reshape(b, -1))


def test_windows_on_the_batch_axis():
    """Samples' windows on the leading axis score as those on an axis of their own."""
    x = images(8, 4, 3)
    variables = Windows(False).init(jax.random.key(0), x)
    plain, folded = (
        lswag_jax.score_model(Windows(fold), variables, x, LABELS, BY_SAMPLE)
        for fold in (False, True)
    )
    check_equal(plain, folded)


def test_gradients_of_windows(x64):
    """Every sample's own gradient, of folded layers too, against that of its own loss."""
    x = images(8, 4, 3).astype(float)
    module = Windows(True, norm=False)
    variables = jax.tree.map(lambda v: v.astype(float), module.init(jax.random.key(0), x))
    recorded = tape.record(adapters.linen_network(module, variables), x, LABELS)

    def loss(variables, i):
        return tape.cross_entropy(module.apply(variables, x[i : i + 1]), LABELS[i : i + 1]).sum()

    for i in (0, 5):
        expected = jax.grad(loss)(variables, i)["params"]
        for layer in (*recorded.layers, *recorded.norms):
            pairs = [(c.inputs[i : i + 1], c.cotangent[i : i + 1]) for c in layer.calls]
            found = layer.gradient(tuple(layer.params), pairs)
            for name, value in found.items():
                np.testing.assert_allclose(value, expected[layer.name][name], atol=1e-12)


class Tokens(nn.Module):
    """A linear layer, or an activation, of learned tokens or positions that no image moves."""

    rows: int
    place: str
    lead: bool = False

    @nn.compact
    def __call__(self, x):
        shape = (1, self.rows, 4) if self.lead else (self.rows, 4)
        tokens = self.param("tokens", nn.initializers.normal(1.0), shape)
        tokens = nn.Dense(4, name="q")(tokens) if self.place == "layer" else nn.relu(tokens)
        x = nn.relu(nn.Dense(4, name="embed")(x.reshape(len(x), -1)))
        return nn.Dense(3, name="head")(x + tokens.reshape(-1, 4).mean(0, keepdims=True))


@pytest.mark.parametrize(("rows", "lead"), [(5, True), (BATCH, False), (16, False)])
def test_what_no_image_moves(rows, lead):
    """A layer of tokens alone is missed and said so; an activation of them is none."""
    x, module = images(2, 2, 3), Tokens(rows, "layer", lead)
    variables = module.init(jax.random.key(0), x)
    with pytest.warns(UserWarning, match="they miss .*q/kernel .which meets parameters alone"):
        table = lswag_jax.score_model(module, variables, x, LABELS)
    assert table.rows[0]["coverage"]["share"] < 0.95
    module = Tokens(rows, "activation", lead)
    variables = module.init(jax.random.key(0), x)
    found = lswag_jax.explain_model(module, variables, x)
    assert (found.share, found.missed, found.activations) == (1, {}, (4,))


class Masked(nn.Module):
    """A user's layer that multiplies by an array with a row a sample."""

    @nn.compact
    def __call__(self, x, mask):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], 8))
        return x @ kernel * mask


class WithMask(nn.Module):
    """It, with a mask of the whole batch or of one row."""

    whole: bool

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        mask = x[:, :8] > 0 if self.whole else jnp.ones((1, 8))
        return nn.Dense(3)(nn.relu(Masked(name="masked")(x, mask)))


@pytest.mark.parametrize("whole", [False, True])
def test_layers_with_arrays_of_the_whole_batch(whole):
    x = images(2, 2, 3)
    variables = WithMask(whole).init(jax.random.key(0), x)
    assert lswag_jax.score_model(WithMask(whole), variables, x, LABELS).status[0] == "ok"


class Twice(nnx.Module):
    """Two layers with one BatchNorm, called by keyword or by position."""

    def __init__(self, rngs):
        self.a = nnx.Linear(3, 4, rngs=rngs)
        self.b = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.a(inputs=x)))
        x = nnx.relu(self.norm(x=self.b(out_sharding=None, inputs=x)))
        return self.head(inputs=x.mean((1, 2)))


class TwiceLinen(nn.Module):
    """The same in Linen."""

    @nn.compact
    def __call__(self, x):
        norm = nn.BatchNorm(use_running_average=True, name="norm")
        x = nn.relu(norm(nn.Dense(4, name="a")(inputs=x)))
        x = nn.relu(norm(nn.Dense(4, name="b")(x)))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


def test_an_nnx_norm_called_twice_and_by_keyword():
    x, model = images(4, 2, 3), Twice(nnx.Rngs(0))
    params = {
        name: {key: getattr(getattr(model, name), key)[...] for key in ("kernel", "bias")}
        for name in ("a", "b", "head")
    }
    params["norm"] = {"scale": model.norm.scale[...], "bias": model.norm.bias[...]}
    stats = {"norm": {"mean": model.norm.mean[...], "var": model.norm.var[...]}}
    variables = {"params": params, "batch_stats": stats}
    names = ("lswag", "snip", "nwot", "gradsign")
    ours = lswag_jax.score_model(model, None, x, LABELS, names)
    check_equal(lswag_jax.score_model(TwiceLinen(), variables, x, LABELS, names), ours)
    recorded = tape.record(adapters.nnx_network(model), jnp.asarray(x))
    assert [len(norm.calls) for norm in recorded.norms] == [2]
    assert type(model.norm) is nnx.BatchNorm


class OneByOne(nnx.Module):
    """A network of one image under `jax.vmap`, or of the batch."""

    def __init__(self, mapped, rngs):
        self.mapped = mapped
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def one(self, x):
        return self.head(nnx.relu(self.conv(x)).mean((-3, -2)))

    def __call__(self, x):
        return jax.vmap(self.one)(x) if self.mapped else self.one(x)


def test_a_vmap_over_samples():
    x = images(4, 4, 3)
    mapped, plain = (
        lswag_jax.score_model(OneByOne(m, nnx.Rngs(0)), None, x, LABELS, BY_SAMPLE)
        for m in (True, False)
    )
    check_equal(plain, mapped)


class Wrapped(OneByOne):
    """The network of the batch inside one of NNX's transformations."""

    def __init__(self, wrap, rngs):
        super().__init__(False, rngs)
        self.wrap = wrap

    def __call__(self, x):
        return self.wrap(type(self).one)(self, x)


@pytest.mark.parametrize("wrap", [nnx.remat, nnx.jit])
def test_inside_a_transformation_of_nnx(wrap):
    x, names = images(4, 4, 3), ("lswag", "snip")
    plain = lswag_jax.score_model(OneByOne(False, nnx.Rngs(0)), None, x, LABELS, names)
    check_equal(plain, lswag_jax.score_model(Wrapped(wrap, nnx.Rngs(0)), None, x, LABELS, names))


class Ensemble(nn.Module):
    """Four linear layers at once, each with its own kernel or all with one."""

    own: bool
    axis: int | None

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), 4, -1) if self.axis else x.reshape(len(x), -1)
        layers = nn.vmap(
            nn.Dense,
            in_axes=self.axis,
            out_axes=1,
            axis_size=4,
            variable_axes={"params": 0 if self.own else None},
            split_rngs={"params": self.own},
        )
        x = nn.relu(layers(6, name="members")(x))
        return nn.Dense(3)(x.reshape(len(x), -1))


@pytest.mark.parametrize(("own", "axis"), [(True, None), (True, 1), (False, 1)])
@pytest.mark.parametrize("count", [4, 8])
def test_a_vmap_over_layers(own, axis, count):
    """Slices of a stack of kernels are layers of their own; one kernel for all is one layer."""
    x, module = images(4, 2, 3)[:count], Ensemble(own, axis)
    variables = module.init(jax.random.key(0), x)
    found = lswag_jax.explain_model(module, variables, x)
    members = [f"members[{i}]" for i in range(4)] if own else ["members"]
    assert [name for name, *_ in found.layers] == [*members, "Dense_0"]


class Two(nn.Module):
    """A network of two inputs, or of both in one array."""

    joined: bool = False
    norm: bool = False

    @nn.compact
    def __call__(self, x, z=None):
        if self.joined:
            x, z = x[:, :12], x[:, 12:]
        x = nn.Dense(8, name="a")(x.reshape(len(x), -1)) + nn.Dense(8, name="b")(z)
        if self.norm:
            x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        return nn.Dense(3, name="head")(nn.relu(x))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("keyword", [False, True])
def test_two_inputs(norm, keyword):
    """A second input with a row a sample scores as one that is part of the images."""
    x, z = images(2, 2, 3), images(5)[:, ::-1]
    call = {"kwargs": {"z": z}} if keyword else {"args": (z,)}
    variables = Two(norm=norm).init(jax.random.key(0), x, z)
    # A vector that is normalised alone is zero, which leaves GradSign nothing.
    names = ("lswag", "snip", "nwot", "macs") + (() if norm else ("zico", "gradsign"))
    options = {"gradient_batch": 4}
    two = lswag_jax.score_model(Two(norm=norm), variables, x, LABELS, names, **call, **options)
    both = np.concatenate([x.reshape(BATCH, -1), z], axis=1)
    one = lswag_jax.score_model(Two(True, norm), variables, both, LABELS, names, **options)
    check_equal(one, two)
    assert two["macs"][0] == 12 * 8 + 5 * 8 + 8 * 3


def test_two_inputs_run_on_the_batch_alone():
    x, z = images(3, 3, 3), images(5)
    variables = Two(norm=True).init(jax.random.key(0), x, z)
    names = ("synflow", "meco", "linear_regions", "zico", "snip")
    table = lswag_jax.score_model(Two(norm=True), variables, x, LABELS, names, args=(z,))
    statuses = [table.statuses[name][0] for name in names]
    assert statuses == ["not_applicable"] * 4 + ["ok"]


class MLP(nn.Module):
    """Two layers."""

    boxed: bool = False

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        init = nn.with_partitioning(init, (None, "model")) if self.boxed else init
        x = nn.relu(nn.Dense(6, kernel_init=init)(x.reshape(len(x), -1)))
        return nn.Dense(3, kernel_init=init)(x)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_narrow_weights_become_float32(dtype):
    x = images(2, 2, 3)
    variables = MLP().init(jax.random.key(0), x)
    narrow = jax.tree.map(lambda v: v.astype(dtype), variables)
    wide = jax.tree.map(lambda v: v.astype(jnp.float32), narrow)
    names = ("lswag", "snip", "synflow")
    ours = lswag_jax.score_model(MLP(), narrow, x, LABELS, names)
    check_equal(lswag_jax.score_model(MLP(), wide, x, LABELS, names), ours, rtol=1e-7)


@pytest.mark.parametrize("wide_images", [True, False])
def test_images_and_weights_in_one_dtype(x64, wide_images):
    x = images(2, 2, 3)
    variables = jax.tree.map(lambda v: v.astype(jnp.float32), MLP().init(jax.random.key(0), x))
    wide = jax.tree.map(lambda v: v.astype(jnp.float64), variables)
    names, wide_x = ("lswag", "snip", "synflow"), x.astype(np.float64)
    mixed = (variables, wide_x) if wide_images else (wide, x)
    ours = lswag_jax.score_model(MLP(), *mixed, LABELS, names)
    check_equal(lswag_jax.score_model(MLP(), wide, wide_x, LABELS, names), ours, rtol=1e-12)


def test_partitioned_parameters():
    x = images(2, 2, 3)
    variables = MLP(boxed=True).init(jax.random.key(0), x)
    names = ("lswag", "snip", "grasp", "params")
    plain = lswag_jax.score_model(MLP(), nn.meta.unbox(variables), x, LABELS, names)
    check_equal(plain, lswag_jax.score_model(MLP(boxed=True), variables, x, LABELS, names))


class Holder(nn.Module):
    """A layer with a kernel of its own that holds another one, or a BatchNorm."""

    norm: bool = False

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], 8))
        if self.norm:
            return nn.BatchNorm(use_running_average=True)(x @ kernel)
        return nn.Dense(6, name="inner")(jnp.sin(x @ kernel))


class Held(nn.Module):
    """A network of such a layer, or of two layers that hold nothing."""

    apart: bool = False
    norm: bool = False

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        if self.apart:
            x = jnp.sin(nn.Dense(8, use_bias=False, name="first")(x))
            x = nn.Dense(6, name="second")(x)
        else:
            x = Holder(self.norm, name="holder")(x)
        return nn.Dense(3, name="head")(nn.relu(x))


def test_a_layer_that_holds_another():
    x = images(2, 2, 3)
    variables = Held().init(jax.random.key(0), x)
    params = variables["params"]
    apart = {"first": {"kernel": params["holder"]["kernel"]}, "head": params["head"]}
    apart["second"] = params["holder"]["inner"]
    names = ("snip", "gradsign", "grad_norm")
    ours = lswag_jax.score_model(Held(), variables, x, LABELS, names)
    check_equal(
        lswag_jax.score_model(Held(True), {"params": apart}, x, LABELS, names), ours, rtol=1e-5
    )
    module = Held(norm=True)
    variables = module.init(jax.random.key(0), x)
    assert lswag_jax.score_model(module, variables, x, LABELS).status[0] == "ok"


def test_no_labels():
    x = images(4, 4, 3)
    variables = MLP().init(jax.random.key(0), x)
    names = ("swap", "ntk", "synflow", "params")
    check_equal(
        lswag_jax.score_model(MLP(), variables, x, LABELS, names),
        lswag_jax.score_model(MLP(), variables, x, None, names),
    )
    with pytest.raises(ValueError, match=r"no proxy reads them, got \['lswag'\]"):
        lswag_jax.score_model(MLP(), variables, x, None, ("lswag", "swap"))
