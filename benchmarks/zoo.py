"""Models of public packages scored as they are: layers, coverage, L-SWAG and status of each.

    python benchmarks/run.py zoo                   # of every package that is installed
    python benchmarks/run.py zoo keras jax_resnet  # of some

None of these packages is a dependency: one that is missing, or has no such model, is named and left
out. transformers has Flax models up to version 4; bonsai is github.com/jax-ml/bonsai.
"""

import argparse
import importlib
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tables
from flax import nnx

import lswag_jax

BATCH, SIZE, CLASSES = 8, 32, 10


def of_transformers(architecture: str, **sizes: Any) -> Callable:
    """An image classifier of transformers, made small, such as "ViT"."""

    def make(images):
        import transformers  # not version 5, which has no Flax

        config = getattr(transformers, f"{architecture}Config")(num_labels=CLASSES, **sizes)
        kind = getattr(transformers, f"Flax{architecture}ForImageClassification")
        model = kind(config, input_shape=images[:1].shape)
        has_statistics = "batch_stats" in model.params
        variables = model.params if has_statistics else {"params": model.params}
        return model.module, variables, {"output": "logits"}

    return make


def vit_of_bonsai(images):
    """A small ViT."""
    from bonsai.models.vit import modeling

    config = modeling.ModelConfig(
        image_size=(SIZE, SIZE), patch_size=(8, 8), num_channels=3, hidden_dim=64,
        attn_dropout_prob=0.0, dropout_prob=0.0, num_heads=4, mlp_dim=128, eps=1e-6, num_layers=4,
        num_labels=CLASSES,
    )  # fmt: skip
    model = modeling.ViTClassificationModel(config, rngs=nnx.Rngs(0))
    return model, None, {"kwargs": {"rngs": None}}


def of_linen(package: str, name: str, **options: Any) -> Callable:
    """A Linen module of a package."""

    def make(images):
        module = getattr(importlib.import_module(package), name)(**options)
        return module, module.init(jax.random.key(0), images), {}

    return make


def of_keras(name: str, **options: Any) -> Callable:
    """One of Keras' applications."""

    def make(images):
        os.environ.setdefault("KERAS_BACKEND", "jax")
        import keras

        keras.utils.set_random_seed(0)
        shape = {"input_shape": images.shape[1:], "classes": CLASSES, "weights": None}
        build = getattr(keras.applications, name)
        return build(**shape, classifier_activation=None, **options), None, {}

    return make


def of_haiku(name: str) -> Callable:
    """One of Haiku's networks."""

    def make(images):
        import haiku

        def network(x, is_training):
            return getattr(haiku.nets, name)(num_classes=CLASSES)(x, is_training)

        model = haiku.transform_with_state(network)
        return model, model.init(jax.random.key(0), images, True), {}

    return make


def mlp_of_equinox(images):
    """A ReLU network of three layers on the pixels."""
    import equinox

    mlp = equinox.nn.MLP(images[0].size, CLASSES, 64, 2, key=jax.random.key(0))
    return equinox.nn.Sequential([equinox.nn.Lambda(jax.numpy.ravel), mlp]), None, {}


VIT = {"image_size": SIZE, "patch_size": 8, "hidden_size": 64, "num_attention_heads": 4}
VIT |= {"num_hidden_layers": 4}
CNN = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 64], "depths": [1, 1, 1, 1]}
# Package that is imported, model, and what makes it.
MODELS: list[tuple[str, str, Callable]] = [
    ("transformers", "small ViT", of_transformers("ViT", intermediate_size=128, **VIT)),
    ("transformers", "small BEiT", of_transformers("Beit", intermediate_size=128, **VIT)),
    ("transformers", "small DINOv2", of_transformers("Dinov2", **VIT)),
    ("transformers", "small ResNet", of_transformers("ResNet", layer_type="basic", **CNN)),
    ("transformers", "small RegNet", of_transformers("RegNet", groups_width=8, **CNN)),
    ("bonsai", "small ViT", vit_of_bonsai),
    ("jax_resnet", "ResNet-18", of_linen("jax_resnet", "ResNet18", n_classes=CLASSES)),
    (
        "flaxmodels",
        "ResNet-18 of 1000 classes",
        of_linen("flaxmodels", "ResNet18", output="logits", pretrained=None),
    ),
    ("keras", "MobileNetV2, a third as wide", of_keras("MobileNetV2", alpha=0.35)),
    ("keras", "MobileNetV3, small", of_keras("MobileNetV3Small")),
    ("haiku", "MobileNetV1", of_haiku("MobileNetV1")),
    ("haiku", "ResNet-18", of_haiku("ResNet18")),
    ("equinox", "MLP of three layers on the pixels", mlp_of_equinox),
]


def row_of(package: str, model_name: str, make: Callable) -> dict | None:
    """What scoring a package's model gives; None where it has none here, or is refused."""
    title = f"{model_name} of {package}"
    images = np.random.default_rng(0).normal(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.arange(BATCH) % CLASSES
    try:
        model, variables, options = make(images)
    except (ImportError, AttributeError) as error:
        print(f"{title} is left out: {error}")
        return None
    start, proxies = time.perf_counter(), ("lswag", "params")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table = lswag_jax.score_model(model, variables, images, labels, proxies, **options)
        except ValueError as error:
            print(f"{title} is refused: {error}")
            return None
    for warning in caught:
        if warning.category is UserWarning:
            print(f"{title}: {warning.message}")
    coverage = table.rows[0]["coverage"]
    return {
        "package": package,
        "version": getattr(importlib.import_module(package), "__version__", "?"),
        "model": model_name,
        "parameters": int(table["params"][0]),
        "layers": len(coverage["layers"]),
        "coverage": 100 * coverage["share"],
        "activations": len(coverage["activations"]),
        "lswag": float(table["lswag"][0]),
        "status": str(table.status[0]),
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Shows a row for each installed package."""
    parser = argparse.ArgumentParser(description=__doc__)
    packages = list(dict.fromkeys(package for package, _, _ in MODELS))
    parser.add_argument("packages", nargs="*", choices=[[], *packages], default=[])
    wanted = parser.parse_args().packages or packages
    rows = [row for model in MODELS if model[0] in wanted and (row := row_of(*model))]
    if rows:
        tables.show("models of public packages", rows, {"coverage": 1, "seconds": 0}, len(rows))


if __name__ == "__main__":
    main()
