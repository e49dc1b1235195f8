"""Super-networks: the law of shared weights after training, populations, and a search by them."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lswag_jax import data, search, spaces
from lswag_jax.arrays import enable_x64
from lswag_jax.cli import loading
from lswag_jax.cli import search as search_binary
from lswag_jax.cli.default_config import default_config
from lswag_jax.spaces import AutoFormer
from lswag_jax.training import inherit, model_files, runner, step, supernet, supernet_step
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.optimizer import OptimizerOptions
from lswag_jax.training.runner import TrainOptions
from lswag_jax.training.step import StepOptions
from tests.helpers import training
from tests.helpers.autoformer_goldens import load
from tests.helpers.batches import message

SPACE = AutoFormer(
    "shared", (12, 24), (1, 2), (2.0, 3.0), (1, 2), head_dim=8, image_size=8, patch_size=4,
    channels=1, num_classes=4, relative_position=False,
)  # fmt: skip


@functools.cache
def trained(folder):
    """A super-network after two epochs, two genotypes a step."""
    options = TrainOptions(
        epochs=2,
        batch_size=16,
        optimizer=OptimizerOptions(3e-3),
        augment=AugmentOptions(mixup=0.5),
        step=StepOptions(accumulate=2),
    )
    return runner.train(SPACE, None, training.pool(), training.pool(seed=1), options, folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("supernet") / "run")


def test_a_sub_network_is_its_own_network(model):
    """Elastic evaluation equals `build(g)` with extracted weights, after training too."""
    with enable_x64(True):
        variables = jax.tree.map(lambda x: np.asarray(x, np.float64), model.variables)
        images = np.random.default_rng(0).normal(size=(4, *SPACE.image_shape))
        elastic = jax.jit(SPACE.network().apply)
        for g in (SPACE.parse("12/1/2"), SPACE.parse("24/2,1/3,2")):
            encoded = {k: v[0] for k, v in supernet.encode(SPACE, [g]).items()}
            own = SPACE.build(g).apply(SPACE.extract(variables, g), images)
            np.testing.assert_allclose(elastic(variables, images, encoded), own, atol=1e-12)


@pytest.mark.parametrize("kind", ["relative", "split"])
def test_a_step_in_a_corner_is_one_of_the_whole(kind):
    """Training by programs of the widths and depths equals that by one, stochastic depth too."""
    split, relative = kind == "split", kind == "relative"
    space = dataclasses.replace(
        SPACE, head_dim=None if split else 8, relative_position=relative, depths=(1, 2, 3)
    )
    problem = step.Problem(space.network().clone(drop_path=0.5), 4, (0.5,), (0.25,))
    optimizer, options = optax.sgd(0.1), StepOptions(accumulate=2)
    variables = inherit.initial(space, None, jax.random.key(0))
    texts = ("12/1/2", "12/1,2,1/3,2,2", "24/2,1/3,2", "24/1,1,2/2,3,3")
    states = []
    for steps in (1, 10**6):
        run = supernet_step.train_step(space, problem, optimizer, AugmentOptions(), options, steps)
        state = step.init_state(jax.tree.map(jnp.array, variables), optimizer, options)
        rng = np.random.default_rng(0)
        for text in texts:
            batch = {
                "image": rng.integers(0, 256, (8, *space.image_shape), np.uint8),
                "label": rng.integers(0, 4, 8),
                "encoded": supernet.encode(space, [space.parse("12/1/2"), space.parse(text)]),
            }
            state, _ = run(state, batch, jax.random.key(1))
        states.append(state)
    assert not np.allclose(
        states[0].params["head"]["kernel"], variables["params"]["head"]["kernel"]
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6), states[0].params, states[1].params
    )


def test_only_the_weights_of_a_genotype_are_trained():
    problem = step.Problem(SPACE.network(), 4, (0.5,), (0.25,))
    loss = jax.jit(jax.grad(step.make_loss(problem, StepOptions()), has_aux=True))
    variables = inherit.initial(SPACE, None, jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(4, *SPACE.image_shape)).astype(np.float32)
    g = SPACE.parse("12/1/2")
    encoded = {k: v[0] for k, v in supernet.encode(SPACE, [g]).items()}
    targets = np.eye(4, dtype=np.float32)
    grads, _ = loss(variables["params"], {}, (images, targets, encoded, jax.random.key(0)))
    for leaf in jax.tree.leaves(grads["blocks_1"]):
        np.testing.assert_array_equal(leaf, 0)
    fc1 = grads["blocks_0"]["mlp"]["fc1"]["kernel"]
    np.testing.assert_array_equal(np.asarray(fc1 != 0).any(axis=1), np.arange(24) < 12)
    np.testing.assert_array_equal(np.asarray(fc1 != 0).any(axis=0), np.arange(72) < 24)


def test_genotypes_depend_on_seed_and_step_only():
    batches = supernet.with_genotypes(lambda start: iter([{}] * (9 - start)), SPACE, 2, seed=5)
    whole, rest = list(batches(0)), list(batches(6))
    jax.tree.map(np.testing.assert_array_equal, whole[6:], rest)
    assert len({batch["encoded"]["embed_dim"].tobytes() for batch in whole}) > 1


def test_population_in_one_program(model):
    """Accuracies are those of the networks that inherit the weights, whatever the chunk."""
    pool = training.pool(seed=2)
    genotypes = SPACE.sample(np.random.default_rng(0), 3)
    found = list(supernet.Accuracies(model, pool, 20, chunk=2)(genotypes))
    images = [pool.image(i) for i in range(pool.size)]
    labels = [pool.label(i) for i in range(pool.size)]
    for g, metrics in zip(genotypes, found, strict=True):
        probabilities = model.inherit(g).predict(images)
        assert metrics["top1"] == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
        loss = -np.log(probabilities[np.arange(pool.size), labels]).mean()
        assert metrics["loss"] == pytest.approx(loss, rel=1e-4)
    with pytest.raises(ValueError, match="only a super-network has"):
        supernet.Accuracies(model.inherit(genotypes[0]), pool)


def test_search_by_inherited_accuracy(model, tmp_path):
    accuracies = supernet.Accuracies(model, training.pool(seed=2))
    images = np.zeros((2, *SPACE.image_shape), np.float32)
    result = search.run(
        SPACE,
        images,
        [0, 1],
        ("params", supernet.InheritedAccuracy()),
        search.RandomOptions(num=5),
        tmp_path,
        config={"a": 1},
        fitness="inherited_accuracy",
        complete=accuracies.complete,
    )
    (best,) = accuracies([SPACE.parse(result.table.ids[result.best])])
    assert best["top1"] == result.fitness[result.best] == result.table["inherited_accuracy"].max()


def test_a_model_inherits(model, tmp_path):
    """From a super-network of ours, with another number of classes, and only where it fits."""
    model_files.save(tmp_path / "super", model)
    g, other = SPACE.parse("12/2/3"), dataclasses.replace(SPACE, num_classes=3)
    found = inherit.inherited(other, g, str(tmp_path / "super"), jax.random.key(1))["params"]
    expected = SPACE.extract(model.variables, g)["params"]
    np.testing.assert_array_equal(
        found["blocks_0"]["mlp"]["fc1"]["kernel"], expected["blocks_0"]["mlp"]["fc1"]["kernel"]
    )
    assert found["head"]["kernel"].shape == (12, 3)
    model_files.save(tmp_path / "one", model.inherit(g))
    with pytest.raises(ValueError, match="holds 12/2/3 of shared, not 24/1/2"):
        inherit.inherited(SPACE, SPACE.parse("24/1/2"), str(tmp_path / "one"), jax.random.key(1))
    (tmp_path / "one" / "model.json").write_text("{}")
    with pytest.raises(ValueError, match="are damaged"):
        model_files.load(tmp_path / "one")
    with pytest.raises(FileNotFoundError, match="no trained network"):
        model_files.load(tmp_path)


def test_a_full_disk_leaves_the_earlier_model(model, tmp_path, monkeypatch):
    """Orbax tells of it by a ValueError of many lines."""
    import orbax.checkpoint as ocp

    def refuse(*arguments):
        raise ValueError("RESOURCE_EXHAUSTED: no space left on device\nand where it happened")

    model_files.save(tmp_path / "model", model)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    monkeypatch.setattr(ocp.StandardCheckpointer, "save", refuse)
    with pytest.raises(OSError, match=r"cannot be saved to .* no space left on device") as error:
        model_files.save(tmp_path / "model", model.inherit(SPACE.parse("12/1/2")))
    message(error)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert model_files.load(tmp_path / "model").genotype is None


def test_published_super_network(tmp_path):
    """A file of Cream's super-network gives a genotype its weights, the classifier drawn anew."""
    golden = load("cream_micro", "init", np.float32)
    weights = golden.state_dict("init/w/")
    np.savez(tmp_path / "super.npz", **weights)
    space = dataclasses.replace(golden.space, num_classes=golden.info["classes"] + 2)
    found = inherit.inherited(
        space, golden.genotype, str(tmp_path / "super.npz"), jax.random.key(0)
    )
    own = golden.space.extract(golden.variables, golden.genotype) if golden.is_cream else None
    kernel = found["params"]["blocks_0"]["attn"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel, own["params"]["blocks_0"]["attn"]["qkv"]["kernel"])
    assert found["params"]["head"]["bias"].shape == (golden.info["classes"] + 2,)


def test_no_super_network_of_batch_norm():
    with pytest.raises(ValueError, match="super-networks are trained of AutoFormer's spaces"):
        supernet.check(spaces.get("nasbench201"))


def test_inherited_accuracy_needs_a_super_network(tmp_path):
    config = default_config("autoformer_tiny")
    config.search.fitness = "params,inherited_accuracy"
    with pytest.raises(ValueError, match="inherited_accuracy needs a trained super-network: set"):
        search_binary.main(config, str(tmp_path))


def test_binary_searches_by_inherited_accuracy(tmp_path):
    """On the part of the training images that was held out, and on no other."""
    config = default_config("autoformer_tiny", image_size=8, patch_size=4, channels=1)
    config.space.update({"embed_dims": (12, 24), "head_counts": (1, 2), "depths": (1, 2)})
    config.space.update({"head_dim": 8, "num_classes": 10, "relative_position": False})
    config.proxies = "params"
    config.data.update({"batch_size": 4, "gradient_batch": 4})
    config.search.update({"strategy": "random", "num": 3, "fitness": "inherited_accuracy"})
    config.search.supernet = str(tmp_path / "super")
    space = loading.load_space(config)
    _, held = data.hold_out(data.open_pool("embedded"), 0.1, seed=0)
    model = model_files.Model(
        space,
        None,
        inherit.initial(space, None, jax.random.key(0)),
        mean=(0.3,),
        std=(0.3,),
        crop="none",
        classes=range(10),
        metrics={},
        provenance={"validation images": f"{held.where} ({held.size})"},
    )
    model_files.save(config.search.supernet, model)
    search_binary.main(config, str(tmp_path / "search"))
    best = json.loads((tmp_path / "search" / "best.json").read_text())
    (found,) = supernet.Accuracies(model, held)([space.from_json(best["genotype"])])
    assert best["score"] == best["proxies"]["inherited_accuracy"] == found["top1"]
    config.seed = 1
    with pytest.raises(ValueError, match=r"was not trained without embedded .*held out \(seed 1\)"):
        search_binary.main(config, str(tmp_path / "other"))
