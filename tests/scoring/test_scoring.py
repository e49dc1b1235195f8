"""score, score_model and make_scorer: the law, traces, chunks, seeds, inputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lswag_jax
from lswag_jax import proxies, tasks
from lswag_jax.proxies import LSwag
from lswag_jax.scoring import num_programs, programs
from lswag_jax.scoring import population as scoring
from tests.helpers.spaces import PLAIN, SPLIT, batch

# The others are in test_conformance.
EVERY = proxies.names()[: proxies.names().index("nwot") + 1]
EVERY += ("snip", "grad_norm", "plain", "fisher", "l2_norm", "params", "macs")
WINDOWED = (LSwag(window=(4, 7)), LSwag(label="all"))


def measured(table, proxy):
    """Parts that an elastic and an exact network share."""
    return {key: table.parts[proxy][key] for key in ("lambda", "psi", "n_layers", "n_units")}


@pytest.mark.slow  # test_conformance has heads of one size
def test_elastic_equals_exact_where_heads_split(x64):
    """score(elastic, g) == score(build(g), extract(variables, g)), by every proxy.

    In float64, since 1/std sums of two float32 programs differ by a per cent where a deviation is
    nearly zero.
    """
    space, (images, labels) = SPLIT, batch(SPLIT)
    genotypes = [space.parse(text) for text in ("24/2,1,2/2,3,2", "12/2,1/3,2")]
    images = images.astype(float)
    chosen = proxies.resolve((*EVERY, LSwag(label="window", window=(4, 7))))
    table = lswag_jax.score(space, genotypes, images, labels, chosen, seed=3)
    variables = programs.initial_variables(space, 3, np.dtype(float))
    for i, g in enumerate(genotypes):
        exact = lswag_jax.score_model(
            space.build(g), space.extract(variables, g), images, labels, chosen
        )
        for name in table.scores:
            where = f"{name} of {space.format(g)}"
            np.testing.assert_allclose(table[name][i], exact[name][0], 1e-8, err_msg=where)
        for name in ("lswag", "window"):
            for key in ("psi", "n_layers", "n_units"):
                assert table.parts[name][key][i] == exact.parts[name][key][0], (name, key)


def test_one_trace_for_all_genotypes(monkeypatch):
    """Whatever their number, and none at all on a second call."""
    images, labels = batch(PLAIN)
    traced, original = [], programs.measure
    monkeypatch.setattr(programs, "measure", lambda *a, **k: traced.append(1) or original(*a, **k))
    rng = np.random.default_rng(0)
    first = lswag_jax.score(PLAIN, PLAIN.sample(rng, 20), images, labels, LSwag(label="budget"))
    assert len(traced) == 1
    assert first.timing["compile"] > 0
    lswag_jax.score(PLAIN, PLAIN.sample(rng, 7), images, labels, LSwag(label="budget"), seed=1)
    assert len(traced) == 1


def test_chunks_seeds_and_repeats():
    images, labels = batch(PLAIN)
    genotypes = PLAIN.sample(np.random.default_rng(0), 5)

    def scores(**settings):
        return lswag_jax.score(PLAIN, genotypes, images, labels, WINDOWED, **settings)

    one = scores()
    for key in ("lswag", "all"):
        np.testing.assert_allclose(scores(batch_size=4)[key], one[key], rtol=1e-4)
        np.testing.assert_array_equal(scores()[key], one[key])
    other = scores(seed=1)
    assert (other["all"] != one["all"]).all()
    both = scores(repeats=2)
    np.testing.assert_allclose(both.per_repeat["all"][:, 0], one["all"])
    np.testing.assert_allclose(both.per_repeat["all"][:, 1], other["all"])
    np.testing.assert_allclose(both["all"], (one["all"] + other["all"]) / 2)
    assert (both.std["all"] > 0).all()


def test_permuting_samples_changes_nothing():
    images, labels = batch(PLAIN)
    order = np.random.default_rng(1).permutation(len(images))
    genotypes = PLAIN.sample(np.random.default_rng(0), 2)
    a = lswag_jax.score(PLAIN, genotypes, images, labels, WINDOWED)
    b = lswag_jax.score(PLAIN, genotypes, images[order], labels[order], WINDOWED)
    for key in ("lswag", "all"):
        np.testing.assert_allclose(a[key], b[key], rtol=1e-4)
        np.testing.assert_array_equal(a.parts[key]["psi"], b.parts[key]["psi"])


def test_pattern_batch_larger_than_gradient_batch():
    images, labels = batch(PLAIN, 12)
    genotypes = PLAIN.sample(np.random.default_rng(0), 2)
    full = lswag_jax.score(PLAIN, genotypes, images, labels)
    small = lswag_jax.score(PLAIN, genotypes, images[:8], labels[:8])
    mixed = lswag_jax.score(PLAIN, genotypes, images, labels, gradient_batch=8)
    np.testing.assert_array_equal(mixed.parts["lswag"]["psi"], full.parts["lswag"]["psi"])
    np.testing.assert_allclose(
        mixed.parts["lswag"]["lambda"], small.parts["lswag"]["lambda"], rtol=1e-5
    )


def test_scorer_under_the_callers_jit_and_grad_free():
    images, labels = batch(PLAIN)
    genotypes = PLAIN.sample(np.random.default_rng(0), 3)
    scorer = lswag_jax.make_scorer(PLAIN, ("lswag", "params"))

    @jax.jit
    def best(variables, encoded):
        return jnp.argmax(scorer(variables, encoded, images, labels)["lswag"]["score"])

    table = lswag_jax.score(PLAIN, genotypes, images, labels)
    assert int(best(PLAIN.init(jax.random.key(0)), PLAIN.encode(genotypes))) == table.best("lswag")


def test_uint8_and_float64(x64):
    pixels = np.random.default_rng(0).integers(0, 256, (8, *PLAIN.image_shape), dtype=np.uint8)
    genotypes, labels = [PLAIN.parse("12/1/2")], np.arange(8) % 4

    def lam(images):
        table = lswag_jax.score(PLAIN, genotypes, images, labels, WINDOWED)
        return table.parts["all"]["lambda"][0]

    assert lam(pixels) == pytest.approx(lam(pixels / np.float32(255)), rel=1e-4)
    # Float32 and float64 differ where a deviation is nearly zero: 1/std has a heavy tail.
    assert lam(pixels) == pytest.approx(lam(pixels / 255.0), rel=2e-2)


class Net(nn.Module):
    """A small CNN with BatchNorm and dropout."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(6, (3, 3))(x))
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(4)(x.mean((1, 2)))


class NnxNet(nnx.Module):
    """The same in NNX."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.norm(self.conv(x)))).mean((1, 2)))


def test_own_models_linen_and_nnx_agree():
    """One network in both libraries with the same weights has the same scores."""
    images, labels = batch(PLAIN, 12)
    variables = Net().init(jax.random.key(0), images, False)
    model = NnxNet(nnx.Rngs(0))
    params = variables["params"]
    for layer, name in ((model.conv, "Conv_0"), (model.head, "Dense_0")):
        layer.kernel, layer.bias = (nnx.Param(params[name][k]) for k in ("kernel", "bias"))
    linen = lswag_jax.score_model(Net(), variables, images, labels, EVERY, gradient_batch=8)
    ours = lswag_jax.score_model(model, None, images, labels, EVERY, gradient_batch=8)
    assert (linen.status == "ok").all()
    for name in EVERY:
        np.testing.assert_allclose(linen[name], ours[name], rtol=1e-5, err_msg=name)
    assert linen["params"][0] == 3 * 9 * 6 + 6 + 12 + 6 * 4 + 4
    assert linen["macs"][0] == 8 * 8 * 9 * 3 * 6 + 6 * 4
    window = LSwag(window=(5, 9))
    cut = lswag_jax.score_model(Net(), variables, images, labels, window, gradient_batch=8)
    np.testing.assert_allclose(
        cut.parts["lswag"]["lambda"][0], linen.parts["lswag"]["lambda_l"][0][1], rtol=1e-5
    )


GENOTYPES = [PLAIN.parse("12/1/2")]
IMAGES, LABELS = batch(PLAIN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": IMAGES[0]}, r"images must have shape \[B, 8, 8, 3\]"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"images must have shape \[B, 8, 8, 3\]"),
        ({"images": IMAGES.astype(int)}, "images must be floats or uint8, got int64"),
        ({"images": "cat.png"}, "images must be an array"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "the batch is empty"),
        ({"labels": LABELS[:-1]}, r"labels of classification must be integers of shape \(8,\)"),
        ({"labels": LABELS / 2}, "labels of classification must be integers"),
        (
            {"labels": LABELS + 1},
            r"labels of classification must be in \[0, 4\), got values from 1 to 4",
        ),
        ({"labels": LABELS - 1}, r"labels of classification must be in \[0, 4\)"),
        ({"proxies": "lswga"}, "unknown proxy 'lswga', known are lswag"),
        ({"genotypes": ["12/1/2"]}, "holds AutoFormerGenotype"),
        ({"gradient_batch": 9}, "gradient_batch must be between 2 and the batch of 8, got 9"),
        ({"repeats": 0}, "repeats must be an integer from 1"),
        (
            {"images": np.tile(IMAGES, (40, 1, 1, 1)), "labels": np.tile(LABELS, 40)},
            "a batch may hold up to 256 images, got 320",
        ),
        ({"batch_norm": "train"}, "batch_norm must be one of"),
    ],
)
def test_bad_input_is_one_sentence(change, message):
    arguments = {"genotypes": GENOTYPES, "images": IMAGES, "labels": LABELS} | change
    with pytest.raises(ValueError, match=message) as error:
        lswag_jax.score(PLAIN, **arguments)
    assert "\n" not in str(error.value)


def test_bad_model():
    with pytest.raises(ValueError, match="the model cannot be run on inputs of shape"):
        lswag_jax.score_model(lambda x: x, {}, IMAGES, LABELS)
    with pytest.raises(ValueError, match="must be a mapping with a key 'params'"):
        lswag_jax.score_model(Net(), None, IMAGES, LABELS)
    with pytest.raises(ValueError, match="variables must be None"):
        lswag_jax.score_model(NnxNet(nnx.Rngs(0)), {}, IMAGES, LABELS)
    variables = Net().init(jax.random.key(0), IMAGES, False)
    with pytest.raises(ValueError, match=r"labels of classification must be in \[0, 4\)"):
        lswag_jax.score_model(Net(), variables, IMAGES, LABELS + 7)


def test_mini_batches_have_their_own_batch_statistics(x64):
    """ZiCo of a BatchNorm network: train-mode gradients of two halves."""
    images, labels = batch(PLAIN, 12)
    images = images.astype(float)
    variables = jax.tree.map(
        lambda v: v.astype(float), Net().init(jax.random.key(0), images, False)
    )

    class Train(Net):
        """The network in train mode, without dropout, by Flax's own BatchNorm."""

        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False)(nn.Conv(6, (3, 3))(x))
            return nn.Dense(4)(nn.relu(x).mean((1, 2)))

    @jax.jit
    def gradient(half, half_labels):
        def loss(params):
            logits, _ = Train().apply(variables | {"params": params}, half, mutable=["batch_stats"])
            return tasks.cross_entropy(logits, half_labels).mean()

        return jax.grad(loss)(variables["params"])

    halves = [gradient(images[i : i + 6], labels[i : i + 6]) for i in (0, 6)]
    expected = 0.0
    for layer in ("Conv_0", "Dense_0"):
        a, b = (np.asarray(g[layer]["kernel"]) for g in halves)
        moving = a != b
        expected += np.log(((np.abs(a) + np.abs(b)) / np.abs(a - b))[moving].sum())
    table = lswag_jax.score_model(Net(), variables, images, labels, "zico")
    assert table["zico"][0] == pytest.approx(expected, rel=1e-9)


def test_an_architecture_that_cannot_be_run_is_a_row(monkeypatch, tmp_path):
    images, labels = batch(PLAIN)
    genotypes = PLAIN.sample(np.random.default_rng(0), 3)
    original = scoring.run_chunk

    def fails(members, *rest):
        if members[0] == genotypes[1]:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nwhile allocating")
        return original(members, *rest)

    monkeypatch.setattr(scoring, "run_chunk", fails)
    with pytest.warns(UserWarning, match="RESOURCE_EXHAUSTED: out of memory"):
        table = lswag_jax.score(PLAIN, genotypes, images, labels, ("swap", "params"))
    assert list(table.status) == ["ok", "error", "ok"]
    assert table.rows[1]["error"] == "RESOURCE_EXHAUSTED: out of memory"
    assert np.isnan(table["swap"][1])
    assert table["params"][1] == PLAIN.num_params(genotypes[1])
    assert table.rank("swap")[1] == 3
    table.to_jsonl(tmp_path / "t.jsonl")
    table.to_parquet(tmp_path / "t.parquet")
    again = lswag_jax.ScoreTable.from_jsonl(tmp_path / "t.jsonl", table.proxies)
    np.testing.assert_array_equal(again["swap"], table["swap"])
    assert again.flat().keys() == table.flat().keys()
    assert list(table) == ["swap", "params"]
    assert "lswag" not in table
    with pytest.raises(ValueError, match="the table has no proxy 'lswag'"):
        table.rank("lswag")
    with pytest.raises(ValueError, match="nan_policy must be one of"):
        table.values("swap", "ignore")
    np.testing.assert_array_equal(table.values("swap", "fill")[1], -1e8)


class Shift(nn.Module):
    """A user's layer with an array in its call."""

    @nn.compact
    def __call__(self, x, shift):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], 8))
        return x @ kernel + jnp.asarray(shift)


class Shifted(nn.Module):
    """Activations before the first layer, and like layers with NumPy arguments."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(x.reshape(len(x), -1))
        for _ in range(3):
            x = nn.relu(Shift()(x, np.full((1, 8), 0.1, np.float32)))
        return nn.Dense(3)(x)


def test_own_layers_with_arrays():
    images, labels = np.random.default_rng(0).normal(size=(6, 2, 4, 1)), np.arange(6) % 3
    images = images.astype(np.float32)
    variables = Shifted().init(jax.random.key(0), images)
    proxies = (LSwag(), LSwag(label="first", window=(0, 0)))
    table = lswag_jax.score_model(Shifted(), variables, images, labels, proxies)
    assert table.status[0] == "ok"
    # The input's activation stands at depth 0, the first layer's at a quarter.
    assert table.parts["lswag"]["n_units"][0] == 4 * 8
    assert table.parts["first"]["n_units"][0] == 8


@pytest.mark.filterwarnings("ignore:the logits do not depend on the images")
def test_a_model_is_compiled_once():
    images, labels = np.zeros((4, 2, 4, 1), np.float32), np.arange(4) % 3
    variables = Shifted().init(jax.random.key(0), images)
    before = num_programs()
    for _ in range(3):
        lswag_jax.score_model(Shifted(), variables, images, labels, "swap")
    assert num_programs() == before + 1
