from lswag_jax.cli.default_train_config import default_train_config, shrink


def get_config(variant=""):
    config = default_train_config(
        "autoformer_tiny", image_size=28, patch_size=4, channels=1, num_classes=10
    )
    return shrink(config) if variant == "runlocal" else config
