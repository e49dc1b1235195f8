"""AutoFormer spaces: counts against published ones, codecs, operators, gradients of padding."""

import ast
import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lswag_jax import spaces
from lswag_jax.spaces import AutoFormerGenotype as Genotype
from tests.helpers.goldens import SMALL
from tests.helpers.spaces import SPLIT, WIDE, batch

# Published networks: width, heads, ratios -> parameters, published MACs in 1e9.
VECTORS = {
    "autoformer_small": [
        ("384/6,6,5,7,5,5,5,6,6,7,7,6,7/3,3.5,3,3.5,4,4,4,4,4,4,4,3.5,4", 22_891_432, 4.892),
        ("384/7,6,7,7,6,5,7,6,7,7,7,7,6,5/3,3,3,3,4,3.5,3,3.5,3,4,3.5,3.5,3.5,4", 23_788_072, None),
        ("384/6,6,6,6,7,6,5,7,5,5,5,7,6,7/4,4,4,3,4,3,3,3.5,4,3.5,3.5,4,3,3.5", 23_935_336, None),
    ],
    "autoformer_base": [
        (
            "576/9,9,9,9,9,10,9,9,10,9,10,9,9,10/3.5,3.5,4,3.5,4,3.5,3.5,3,4,4,3,4,3,3.5",
            53_691_688,
            11.237,
        ),
    ],
    "autoformer_tiny": [
        (
            "192/3,3,3,3,3,3,3,3,3,3,4,3,3/3.5,3.5,3,3.5,3,3,4,4,3.5,4,3.5,4,3.5",
            5_867_944,
            1.344,
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "params", "gmacs"),
    [(name, *vector) for name, vectors in VECTORS.items() for vector in vectors],
)
def test_published_counts(name, text, params, gmacs):
    space = spaces.get(name)
    g = space.parse(text)
    assert space.num_params(g) == params
    assert space.format(g) == text
    if gmacs:
        assert space.macs(g, rule="cream") / 1e9 == pytest.approx(gmacs, abs=5e-4)


COUNTS = json.loads((SMALL / "autoformer_counts_fullsize.json").read_text())


@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_three_repositories(name):
    record = COUNTS[name]
    g = record["genotype"]
    g = Genotype(g["embed_dim"][0], g["num_heads"], g["mlp_ratio"])
    shape = {"image_size": record["img"], "patch_size": record["patch"]}
    cream = spaces.get("autoformer_" + name.split("_")[0], **shape)
    assert cream.num_params(g) == record["standalone_true_param_numel"]
    assert cream.num_params(g) == record["cream_get_sampled_params_numel"]
    assert cream.macs(g, rule="cream") == record["cream_get_complexity_seq196"]
    assert cream.macs(g) == (
        record["standalone_macs_modules"] + record["standalone_macs_attention_matmuls"]
    )
    if "autoprox_params_numel" in record:
        autoprox = spaces.get("vitbench_autoformer", **shape)
        assert autoprox.num_params(g) == record["autoprox_params_numel"]
        assert autoprox.macs(g) == (
            record["autoprox_macs_modules"] + record["autoprox_macs_attention_matmuls"]
        )


def test_mini():
    """17 tokens; its counts by hand, and those of the traced network."""
    space = spaces.get("autoformer_mini")
    assert (space.num_patches, space.image_shape) == (16, (32, 32, 3))
    blocks = len(space.head_counts) * len(space.mlp_ratios)
    assert len(space.embed_dims) * sum(blocks**d for d in space.depths) == 5652
    g = space.parse("24/2/0.5")
    tables = 4 * 30 * 8  # of relative positions
    attention = 24 * 48 + 48 + 16 * 24 + 24 + tables
    block = attention + 2 * 48 + 24 * 12 + 12 + 12 * 24 + 24
    outside = 192 * 24 + 24 + 24 + 17 * 24 + 48 + 24 * 10 + 10
    assert space.num_params(g) == block + outside
    exact = jax.eval_shape(space.build(g).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(exact)) == block + outside


def test_detector():
    """The head sees every patch, and puts out four numbers more; folders of classifiers go on."""
    sizes = {"image_size": 64, "patch_size": 8, "num_classes": 7}
    plain = spaces.get("autoformer_mini", **sizes)
    space = spaces.get("autoformer_mini", **sizes, head="detection")
    g = space.parse("24/2/0.5")
    assert space.num_params(g) - plain.num_params(g) == 4 * 25
    assert space.macs(g) - plain.macs(g) == 24 * (64 * 11 - 7)
    assert (space.task.name, space.task.outputs, plain.task.outputs) == ("detection", 11, 7)
    assert space.describe() == plain.describe() | {"head": "detection"}


def test_counts_of_vitbench(shared_data):
    space = spaces.get("vitbench_autoformer", num_classes=100)
    with open(shared_data / "tables" / "vitbench101_autoformer.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    for row in rows:
        g = Genotype(
            row["hidden_dim"],
            ast.literal_eval(row["num_heads"]),
            ast.literal_eval(row["mlp_ratio"]),
        )
        space.check(g)
        assert space.num_params(g) == int(row["params_c100_calc"])
        assert space.macs(g) == int(row["macs_c100_calc"])


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_operators_stay_in_the_space(seed):
    rng = np.random.default_rng(seed)
    a, b = WIDE.sample(rng, 2)
    for g in (a, b, WIDE.mutate(rng, a), WIDE.mutate(rng, b, m_prob=1.0, s_prob=1.0)):
        WIDE.check(g)
        assert WIDE.parse(WIDE.format(g)) == g
        assert WIDE.from_json(json.loads(json.dumps(g.to_json()))) == g
        assert WIDE.mutate(rng, g, m_prob=0.0, s_prob=0.0) == g
    child = WIDE.crossover(rng, a, b)
    if a.depth != b.depth:
        assert child is None
    else:
        WIDE.check(child)
        genes = (child.embed_dim, *child.num_heads, *child.mlp_ratio)
        parents = [(p.embed_dim, *p.num_heads, *p.mlp_ratio) for p in (a, b)]
        assert all(gene in choice for gene, *choice in zip(genes, *parents, strict=True))


def test_sampling_is_uniform_and_seeded():
    sample = WIDE.sample(np.random.default_rng(0), 600)
    assert sample == WIDE.sample(np.random.default_rng(0), 600)
    for values, choices in (
        ([g.depth for g in sample], WIDE.depths),
        ([g.embed_dim for g in sample], WIDE.embed_dims),
        ([g.num_heads[0] for g in sample], WIDE.head_counts),
    ):
        counts = np.array([values.count(c) for c in choices])
        expected = 600 / len(choices)
        assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


@pytest.mark.parametrize("space", [WIDE, SPLIT], ids=lambda s: s.name)
def test_padding_is_zero_backward(space):
    """Weights outside a genotype get no gradient at all, so that they can never count."""
    images, labels = batch(space)
    variables = jax.jit(space.init)(jax.random.key(0))
    g = Genotype(12, (1, 2), (2.0, 3.0))
    encoded = {key: value[0] for key, value in space.encode([g]).items()}

    def loss(params):
        logits = space.network().apply({"params": params}, images, encoded)
        return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].sum()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    inside = sum(int((leaf != 0).sum()) for leaf in jax.tree.leaves(grads))
    kept = space.extract({"params": grads}, g)
    assert inside == sum(int((leaf != 0).sum()) for leaf in jax.tree.leaves(kept))
    # Only the rows of the relative tables that a small grid needs get a gradient.
    unused = 4 * g.depth * 30 * (space.head_dim or 0) if space.relative_position else 0
    assert 0.9 * (space.num_params(g) - unused) < inside <= space.num_params(g)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Genotype(16, (1, 2), (2.0,)), "num_heads and mlp_ratio must have one entry"),
        (lambda: Genotype(192.7, (3,), (4.0,)), r"embed_dim must be integers, got \[192.7\]"),
        (lambda: Genotype(192, 3, 3.5), "num_heads must be integers, got 3"),
        (lambda: Genotype(192, (3,), "abc"), "mlp_ratio must be numbers, got 'abc'"),
        (lambda: spaces.get("vitbench_autoformer", head_counts=(5,)), "head_counts must divide"),
        (
            lambda: spaces.get("autoformer_tiny", head_dim=None),
            "relative_position needs a head_dim",
        ),
        (lambda: Genotype(-1, (1,), (2.0,)), "embed_dim must be positive, got -1"),
        (lambda: Genotype(16, (1,), (float("nan"),)), "mlp_ratio must be numbers"),
        (lambda: Genotype.from_json({"embed_dim": 1}), "has the keys"),
        (lambda: Genotype.from_json([1]), "has the keys"),
        (lambda: WIDE.check(Genotype(13, (1,), (2.0,))), r"embed_dim of wide must be one of \(12,"),
        (lambda: WIDE.check(Genotype(12, (1,) * 9, (2.0,) * 9)), "depth of wide must be one of"),
        (lambda: WIDE.check(Genotype(12, (5,), (2.0,))), "num_heads of wide must be one of"),
        (lambda: WIDE.check(Genotype(12, (1,), (9.0,))), "mlp_ratio of wide must be one of"),
        (lambda: WIDE.check("12/1/2"), "holds AutoFormerGenotype"),
        (lambda: WIDE.parse("12-1-2"), "is not of the form"),
        (lambda: WIDE.encode([Genotype(16, (1,), (2.0,))]), "embed_dim of wide"),
        (lambda: WIDE.macs(Genotype(12, (1,), (2.0,)), rule="flops"), "rule must be"),
        (lambda: spaces.get("autoformer"), "unknown search space 'autoformer', known are autof"),
        (lambda: spaces.get("autoformer_tiny", depth=3), "has no argument 'depth'"),
        (lambda: spaces.get("autoformer_tiny", patch_size=15), "patch_size must divide"),
        (lambda: spaces.get("autoformer_tiny", depths=()), "depths must be different positive"),
        (lambda: spaces.get("autoformer_tiny", depths=(1, 1)), "depths must be different positive"),
        (lambda: spaces.get("autoformer_tiny", norm_eps=-1), "number above 0, got -1"),
        (
            lambda: spaces.get("autoformer_mini", head="boxes"),
            "head of autoformer_mini must be",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
