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

import jax
import numpy as np
import tables
from flax import nnx

import lswag_jax

BATCH, SIZE, CLASSES = 8, 32, 10


def vit_of_transformers(images):
    """A small ViT for image classification."""
    from transformers import FlaxViTForImageClassification, ViTConfig  # not in version 5

    config = ViTConfig(
        image_size=SIZE, patch_size=8, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=128, num_labels=CLASSES,
    )  # fmt: skip
    model = FlaxViTForImageClassification(config, input_shape=images[:1].shape)
    return model.module, {"params": model.params}, {"output": "logits"}


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


def resnet_of_jax_resnet(images):
    """ResNet-18."""
    import jax_resnet

    return _linen(jax_resnet.ResNet18(n_classes=CLASSES), images)


def resnet_of_flaxmodels(images):
    """ResNet-18, with its 1000 classes."""
    import flaxmodels

    return _linen(flaxmodels.ResNet18(output="logits", pretrained=None), images)


def mobilenet_of_keras(images):
    """MobileNetV2 at a width of 0.35."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    build = keras.applications.MobileNetV2
    options = {"alpha": 0.35, "weights": None, "classifier_activation": None}
    return build(input_shape=images.shape[1:], classes=CLASSES, **options), None, {}


def mobilenet_of_haiku(images):
    """MobileNetV1."""
    import haiku

    def network(x, is_training):
        return haiku.nets.MobileNetV1(num_classes=CLASSES)(x, is_training)

    model = haiku.transform_with_state(network)
    return model, model.init(jax.random.key(0), images, True), {}


def mlp_of_equinox(images):
    """A ReLU network of three layers on the pixels."""
    import equinox

    mlp = equinox.nn.MLP(images[0].size, CLASSES, 64, 2, key=jax.random.key(0))
    return equinox.nn.Sequential([equinox.nn.Lambda(jax.numpy.ravel), mlp]), None, {}


def _linen(module, images):
    return module, module.init(jax.random.key(0), images), {}


# By the package that is imported.
MODELS: dict[str, Callable] = {
    "transformers": vit_of_transformers,
    "bonsai": vit_of_bonsai,
    "jax_resnet": resnet_of_jax_resnet,
    "flaxmodels": resnet_of_flaxmodels,
    "keras": mobilenet_of_keras,
    "haiku": mobilenet_of_haiku,
    "equinox": mlp_of_equinox,
}


def row_of(package: str, make: Callable) -> dict | None:
    """What scoring a package's model gives; None where it has none here, or is refused."""
    images = np.random.default_rng(0).normal(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.arange(BATCH) % CLASSES
    try:
        model, variables, options = make(images)
    except (ImportError, AttributeError) as error:
        print(f"{package} is left out: {error}")
        return None
    start, proxies = time.perf_counter(), ("lswag", "params")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table = lswag_jax.score_model(model, variables, images, labels, proxies, **options)
        except ValueError as error:
            print(f"{package} is refused: {error}")
            return None
    for warning in caught:
        if warning.category is UserWarning:
            print(f"{package}: {warning.message}")
    coverage = table.rows[0]["coverage"]
    return {
        "package": package,
        "version": getattr(importlib.import_module(package), "__version__", "?"),
        "model": (make.__doc__ or "").rstrip("."),
        "parameters": int(table["params"][0]),
        "layers": len(coverage["layers"]),
        "coverage": 100 * coverage["share"],
        "activations": len(coverage["activations"]),
        "lswag": float(table["lswag"][0]),
        "status": str(table.status[0]),
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Shows a row for each package that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", choices=[[], *MODELS], default=[])
    packages = parser.parse_args().packages or list(MODELS)
    rows = [row for name in packages if (row := row_of(name, MODELS[name]))]
    if rows:
        tables.show("models of public packages", rows, {"coverage": 1, "seconds": 0}, len(rows))


if __name__ == "__main__":
    main()
