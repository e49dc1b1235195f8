"""Steps of training and validation on a linear classifier, against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lswag_jax.data.pool import array_pool
from lswag_jax.spaces import AutoFormer
from lswag_jax.spaces.autoformer.network import Block
from lswag_jax.training import step
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.optimizer import OptimizerOptions, make_optimizer, make_schedule
from lswag_jax.training.runner import check_data
from lswag_jax.training.step import StepOptions
from tests.helpers.training import Linear, pool

RATE = 0.01


def batch(size=16):
    images = pool(size)
    return {
        "image": np.stack([images.image(i) for i in range(size)]),
        "label": np.array([images.label(i) for i in range(size)]),
    }


def train(options=StepOptions(), norm=False, steps=1, sgd=True, augment=AugmentOptions()):  # noqa: B008
    """States of a training, the first included, and the metrics of the last step."""
    problem = step.Problem(Linear(norm=norm), 4, (0.5,), (0.25,))
    optimizer = optax.sgd(RATE) if sgd else optax.adamw(RATE)
    variables = problem.module.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    run = jax.jit(step.make_train_step(problem, optimizer, augment, options))
    states, metrics = [step.init_state(variables, optimizer, options)], {}
    for _ in range(steps):
        state, metrics = run(states[-1], batch(), jax.random.key(1))
        states.append(state)
    return states, metrics


def test_gradient_of_a_linear_classifier():
    """Its gradient is x (p - y), of inputs normalised by mean and deviation."""
    states, metrics = train()
    data = batch()
    x = ((data["image"] / 255 - 0.5) / 0.25).reshape(16, -1)
    kernel, bias = (np.asarray(states[0].params["head"][k], np.float64) for k in ("kernel", "bias"))
    logits = x @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gradient = x.T @ (p - np.eye(4)[data["label"]]) / 16
    np.testing.assert_allclose(
        states[1].params["head"]["kernel"], kernel - RATE * gradient, atol=1e-6
    )
    loss = -np.log(p[np.arange(16), data["label"]]).mean()
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)


def test_accumulation_changes_nothing():
    mixed = AugmentOptions(mixup=1.0, erase=0.5)
    whole, _ = train(augment=mixed)
    parts, _ = train(StepOptions(accumulate=4), augment=mixed)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole[1].params, parts[1].params
    )


def test_a_loss_of_its_own():
    """It takes labels as they are, whatever mixing would do to classes."""
    problem = step.Problem(
        Linear(), 4, (0.5,), (0.25,), loss=lambda outputs, labels: ((outputs - labels) ** 2).sum(-1)
    )
    variables = problem.module.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    targets = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    data, optimizer = batch() | {"label": targets}, optax.sgd(RATE)
    run = step.make_train_step(problem, optimizer, AugmentOptions(mixup=1.0), StepOptions())
    state = step.init_state(variables, optimizer, StepOptions())
    _, metrics = jax.jit(run)(state, data, jax.random.key(1))
    outputs = problem.module.apply(variables, problem.normalise(data["image"]))
    np.testing.assert_allclose(
        metrics["loss"], ((outputs - targets) ** 2).sum(-1).mean(), rtol=1e-5
    )


def test_moving_average():
    states, _ = train(StepOptions(ema=0.9), steps=3)
    average = np.asarray(states[0].params["head"]["kernel"], np.float64)
    for t, state in enumerate(states[1:]):
        decay = min(0.9, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * np.asarray(state.params["head"]["kernel"])
    np.testing.assert_allclose(states[-1].variables["params"]["head"]["kernel"], average, atol=1e-6)


def test_batch_norm_statistics_follow():
    states, _ = train(norm=True, sgd=False)
    x = ((batch()["image"] / 255 - 0.5) / 0.25).reshape(16, -1)
    # Flax's default momentum is 0.99; it starts from 0.
    np.testing.assert_allclose(
        states[1].variables["batch_stats"]["norm"]["mean"], 0.01 * x.mean(axis=0), atol=1e-6
    )


def test_bfloat16_keeps_float32_weights():
    exact, exact_metrics = train(norm=True)
    rough, metrics = train(StepOptions(bfloat16=True), norm=True)
    assert {x.dtype for x in jax.tree.leaves(rough[1])} == {
        jnp.dtype("float32"),
        jnp.dtype("int32"),
    }
    np.testing.assert_allclose(metrics["loss"], exact_metrics["loss"], rtol=0.02)
    assert float(metrics["loss"]) != float(exact_metrics["loss"])
    for a, b in zip(
        jax.tree.leaves(exact[1].params), jax.tree.leaves(rough[1].params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_validation_sums():
    problem = step.Problem(Linear(num_classes=7), 7, (0.5,), (0.25,))
    rng = np.random.default_rng(0)
    data = {"image": rng.integers(0, 256, (20, 8, 8, 1), np.uint8)}
    data |= {"label": rng.integers(7, size=20), "weight": np.r_[np.ones(15), np.zeros(5)]}
    variables = problem.module.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    sums = jax.jit(step.make_eval_step(problem))(variables, data)
    logits = np.asarray(problem.module.apply(variables, problem.normalise(data["image"])))
    order = np.argsort(-logits, axis=1)[:15]
    labels = data["label"][:15, None]
    assert sums["count"] == 15
    assert sums["top1"] == (order[:, :1] == labels).sum()
    assert sums["top5"] == (order[:, :5] == labels).sum()
    variables["params"]["head"]["bias"] = jnp.full(7, jnp.nan)
    assert jax.jit(step.make_eval_step(problem))(variables, data)["top1"] == 0


def test_only_kernels_decay_and_gradients_are_clipped():
    options = OptimizerOptions(0.1, weight_decay=0.5, clip_norm=1.0)
    optimizer = make_optimizer(options, make_schedule(options, 10, 5))
    params = {"head": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}}
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1 * 0.5 * 3.0, rtol=1e-6)
    np.testing.assert_array_equal(updates["head"]["bias"], 0)
    with pytest.raises(ValueError, match="warm-up of 10 steps"):
        make_schedule(OptimizerOptions(warmup_epochs=2), 10, 5)
    with pytest.raises(ValueError, match="learning_rate must be a number above 0"):
        OptimizerOptions(learning_rate=0)


@pytest.mark.parametrize("warmup", [0, 1])
def test_the_learning_rate_is_that_of_optax(warmup, caplog):
    """Also without a warm-up, where optax's own warns that its first part has no steps."""
    options = OptimizerOptions(0.1, 0.02, warmup_epochs=warmup)
    schedule, start = make_schedule(options, 20, 5), 0.0001 if warmup else 0.1
    assert not caplog.records
    theirs = optax.warmup_cosine_decay_schedule(start, 0.1, 5 * warmup, 20, 0.02)
    steps = np.arange(21)
    np.testing.assert_allclose(schedule(steps), theirs(steps), rtol=1e-6)


def test_images_that_no_network_learns_from():
    """NaN is refused before the first step, also of a validation; constant images are told of."""
    space = AutoFormer("s", (4,), (1,), (1.0,), (1,), image_size=4, patch_size=2, num_classes=4)
    good = array_pool(np.eye(4)[None].repeat(8, 0)[..., None], np.arange(8) % 4, "good", "good")
    check_data(space, good, good)
    broken = dataclasses.replace(good, where="broken", num_broken=3)
    with pytest.raises(ValueError, match="3 images of broken hold NaN or Inf: leave them out"):
        check_data(space, good, broken)
    images = np.full((8, 4, 4, 1), 0.5)
    images[0, 0] = 1
    constant = array_pool(images, np.arange(8) % 4, "it", "it")
    with pytest.warns(UserWarning, match="7 of the 8 images looked at of it are constant"):
        check_data(space, constant, good)


def test_stochastic_depth_keeps_the_mean():
    block = Block(1, 4, 8, True, 1e-5, drop_path=0.25, largest_head=8)
    x = jnp.ones((4000, 1, 1))
    y = block.apply({}, x, True, method="_branch", rngs={"drop_path": jax.random.key(0)})
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    np.testing.assert_allclose(y.mean(), 1, atol=0.04)
    np.testing.assert_array_equal(block.apply({}, x, False, method="_branch"), x)


def test_first_block_is_never_dropped():
    space = AutoFormer("one", (12,), (1,), (2.0,), (1,), head_dim=8, image_size=8, patch_size=4)
    module = space.build(space.parse("12/1/2")).clone(drop_path=0.9)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    variables = module.init(jax.random.key(0), images)
    trained = module.apply(variables, images, train=True, rngs={"drop_path": jax.random.key(0)})
    np.testing.assert_array_equal(trained, module.apply(variables, images))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_several_networks_one_by_one_and_side_by_side(backend, rng, monkeypatch):
    """A CPU takes them in turn, other devices at once: no difference in what comes out."""
    kernels, inputs = rng.normal(size=(2, 3, 4, 4)).astype(np.float32)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    found = jax.jit(step.for_each_network(lambda w, x: {"y": jnp.tanh(x @ w)}))(kernels, inputs)
    np.testing.assert_allclose(found["y"], np.tanh(inputs @ kernels), rtol=1e-5)
