"""Cuts the goldens of PyTorch implementations down to what fits into the repository.

    python -m scripts.make_small_goldens ../shared/goldens tests/goldens

Arrays that a seed draws again (`tests/helpers/redraw.py`) are replaced by how they are drawn, which
is found here by comparison; element-wise statistics, float32 values and other large arrays that
only a few tests read are left out. What is kept is bit for bit that of the source.
"""

import json
import pathlib
import shutil
import sys

import numpy as np

from tests.helpers import redraw

NB201 = ("mixed", "sparse")
# Seeds of the weight sets, of the images and of the noise.
FILES = {
    "autoformer_autoprox_micro64": {"init": 0, "gauss": 4, "images": 5, "noise": 6},
    "nb201_inputs": {"images": 201},
    "nb201_extra": {},
    **{f"nb201_{name}_C8_N1": {"default": 7, "kaiming": 8, "gauss": 9} for name in NB201},
    "nb101_inception": {"default": 0, "images": 9, "noise": 6},
    "darts_v2_C4_L3": {"default": 0, "images": 9, "noise": 6},
    "tnb101_micro_8-41414-1_02_333": {"default": 0, "images": 9, "noise": 6},
    "tnb101_macro_8-1234-basic": {"default": 0, "images": 9, "noise": 6},
}
TABLES = ("autoformer_counts_fullsize.json",)
# Parts of the keys that are left out.
LEFT_OUT = (
    *("gradfull64/", "gelu_preact64/", "/val32/", "/ext32/", "/layer32/"),
    *("nb201_allconv3", "nb201_best", "nb201_deadbranch", "meco_modules", "_eigs32"),
)
NUM_WORDS = 1_500_000


def recipe(key: str, array: np.ndarray, seeds: dict[str, int]) -> dict | None:
    """How the array is drawn; None where it is small, or nothing known draws it."""
    if array.dtype != np.float32 or array.size < 64:
        return None
    shape = list(array.shape)
    if key in ("images", "images_B32") and "images" in seeds:
        found = [{"kind": "images", "seed": seeds["images"], "offset": 0, "scale": 0.7}]
    elif key in ("gauss1", "gauss2") and "noise" in seeds:
        offset = array.size if key == "gauss2" else 0
        found = [{"kind": "gaussian", "seed": seeds["noise"], "offset": offset, "scale": 1.0}]
    elif "/w/" in key:
        found = weights(array.ravel().astype(float), seeds[key.split("/")[0]])
    else:
        return None
    for fields in found:
        fields["shape"] = shape
        if np.allclose(redraw.draw(**fields), array, rtol=1e-4, atol=1e-6):
            return fields
    return None


def weights(values: np.ndarray, seed: int) -> list[dict]:
    """Places of PyTorch's stream where three numbers in a row are in the proportions of these."""
    u = redraw.uniforms(seed, NUM_WORDS)
    with np.errstate(all="ignore"):
        normal = np.sqrt(-2 * np.log1p(-u[:-8])) * np.cos(2 * np.pi * u[8:])
        first, second = normal[1:-1] / normal[:-2], normal[2:] / normal[:-2]
        close = np.abs(first * values[0] / values[1] - 1) < 1e-4
        close &= np.abs(second * values[0] / values[2] - 1) < 1e-4
        places = {"torch_normal": (np.flatnonzero(close), normal)}
        steps, own = np.diff(u), np.diff(values[:4])
        close = np.abs(steps[1:-1] / steps[:-2] * own[0] / own[1] - 1) < 1e-3
        close &= np.abs(steps[2:] / steps[:-2] * own[0] / own[2] - 1) < 1e-3
        places["torch_uniform"] = np.flatnonzero(close), 2 * u - 1
    return [
        {"kind": kind, "seed": seed, "offset": int(i), "scale": scale(values, numbers[i : i + 8])}
        for kind, (found, numbers) in places.items()
        for i in found
    ]


def scale(values: np.ndarray, numbers: np.ndarray) -> float:
    """The factor between the first values and the numbers that were drawn."""
    return float(np.float32(values[:8] @ numbers / (numbers @ numbers)))


def differences(array: np.ndarray, fields: dict) -> np.ndarray:
    """Units in the last place by which the array differs from what is drawn."""
    return array.view(np.int32) - redraw.draw(**fields).view(np.int32)


def cut(arrays: dict[str, np.ndarray], seeds: dict[str, int]) -> dict[str, np.ndarray]:
    """The arrays of a small file."""
    kept, recipes, ulps = {}, {}, []
    for key, array in arrays.items():
        if any(text in key for text in LEFT_OUT) or (key == "images" and "images_B32" in arrays):
            continue
        fields = recipe(key, array, seeds)
        if fields is None:
            kept[key] = array.astype(np.int8) if key.startswith("az_sign/") else array
            continue
        # The scale was estimated; the right one of its neighbours leaves the fewest differences.
        size = np.float32(fields["scale"])
        sizes = [size, np.nextafter(size, np.float32(0)), np.nextafter(size, np.float32(9))]
        if "/w/" in key:
            fields = min(
                (fields | {"scale": float(size)} for size in sizes),
                key=lambda fields: np.count_nonzero(differences(array, fields)),
            )
        recipes[key] = fields
        ulps.append(differences(array, fields).ravel())
    if recipes:
        kept |= {"recipes": np.array(json.dumps(recipes)), "ulps": np.concatenate(ulps)}
    return kept


def main(source: str, target: str) -> None:
    """Writes every small file."""
    for table in TABLES:
        shutil.copyfile(pathlib.Path(source, table), pathlib.Path(target, table))
    for file, seeds in FILES.items():
        with np.load(pathlib.Path(source, f"{file}.npz")) as arrays:
            small = cut(dict(arrays), seeds)
        path = pathlib.Path(target, f"{file}.npz")
        np.savez_compressed(path, **small)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
