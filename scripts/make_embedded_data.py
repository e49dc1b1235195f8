"""Writes the embedded images `lswag_jax/assets/fashion_mnist_512.npz`.

512 training images of Fashion-MNIST, 51 or 52 a class, drawn by a seeded generator from the
original idx files, which the Debian package `dataset-fashion-mnist` (MIT licence) holds:

    apt-get download dataset-fashion-mnist
    dpkg -x dataset-fashion-mnist_*.deb unpacked
    python scripts/make_embedded_data.py unpacked/usr/share/datasets/fashion-mnist

The same files and the same seed give the same bytes.
"""

import argparse
import gzip
import pathlib

import numpy as np

CLASSES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
NUM_IMAGES = 512
ASSETS = pathlib.Path(__file__).resolve().parent.parent / "lswag_jax" / "assets"


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads one gzipped idx file of unsigned bytes: a uint8 array of the rank it declares."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes")
    rank = data[3]
    shape = np.frombuffer(data, ">u4", count=rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def draw_balanced(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Shuffled indices of `size` examples, as equally many a class as `size` allows."""
    rng = np.random.default_rng(seed)
    quotas = np.full(len(CLASSES), size // len(CLASSES))
    quotas[rng.permutation(len(CLASSES))[: size % len(CLASSES)]] += 1
    drawn = [
        rng.choice(np.flatnonzero(labels == label), quota, replace=False)
        for label, quota in enumerate(quotas)
    ]
    return rng.permutation(np.concatenate(drawn))


def main() -> None:
    """Reads the idx files, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="folder of train-*-ubyte.gz")
    parser.add_argument("--output", type=pathlib.Path, default=ASSETS / "fashion_mnist_512.npz")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    images = read_idx(args.folder / "train-images-idx3-ubyte.gz")
    labels = read_idx(args.folder / "train-labels-idx1-ubyte.gz")
    index = draw_balanced(labels, NUM_IMAGES, args.seed)
    np.savez_compressed(
        args.output,
        image=images[index][..., None],
        label=labels[index].astype(np.int32),
        classes=np.array(CLASSES),
    )
    print(f"{args.output}: {len(index)} images, {args.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
