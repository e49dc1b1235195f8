"""L-SWAG for TransNAS-Bench-101: `configs/transnas.py:micro` (the default) or `:macro`.

    python -m lswag_jax.cli.score --config=configs/transnas.py:macro --workdir=results/transnas \
        --config.data.source=/data/places

`--config.space.task` is one of class_object, class_scene, jigsaw, room_layout, segmentsemantic,
autoencoder and normal. Jigsaw and autoencoder make their targets of the images; the others take
class labels, or random targets with `--config.data.synthetic_targets`. 256 px is not run here;
`:runlocal` takes a minute or two, `:runlocal_macro` up to a minute per network: it compiles blocks.
"""

from lswag_jax.cli.default_config import check_variant, default_config, shrink


def get_config(variant=""):
    check_variant(variant, "micro", "macro", "runlocal", "runlocal_macro")
    kind = "macro" if variant.endswith("macro") else "micro"
    config = default_config(
        f"transnas_{kind}",
        image_size=256,  # pixels
        task="jigsaw",  # whose labels come from the images
    )
    config.data.source = "tfds:places365_small"
    config.data.batch_size = config.data.gradient_batch = 32  # images
    config.data.balanced = False
    config.data.normalize = "symmetric"  # what a decoder's tanh puts out
    config.score.num = 200  # random genotypes
    if variant.startswith("runlocal"):
        config.data.source = "embedded"
        shrink(config, image_size=64 if kind == "macro" else 32, width=4, decoder_width=64)
        config.score.num = 1
    return config
