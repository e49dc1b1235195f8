"""Tables of what benchmarks publish, and of our own scores.

`convert("nbsz_csv", path, space)` reads one file. Fills of -1e8 become failures, which are counted.
Which draw or run the values are of stays in their provenance, the name of the file. Where files
are from: docs/benchmarks.md. Pickles are not read: Auto-Prox's must be made JSON first.
"""

import ast
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax.analysis import table_files
from lswag_jax.analysis.genotype_texts import own_texts
from lswag_jax.analysis.tables import GroundTruth, Records
from lswag_jax.files import read_npz
from lswag_jax.options import typed
from lswag_jax.scoring.table import STATUSES
from lswag_jax.spaces import AutoFormerGenotype, Space
from lswag_jax.spaces.nasbench101.genotype import OPS

_ORDINALS = ("id", "idx", "index")  # columns that number rows
_NBSZ = "NAS-Bench-Suite-Zero"
_NB201_DATASETS = {
    "cifar10valid": "cifar10-valid",
    "cifar100": "cifar100",
    "cifar10": "cifar10",
    "in16": "ImageNet16-120",
}
_NB201_ACCURACIES = {
    "test200": "test_accuracy",
    "test200_nb201api": "nb201api_test_accuracy",
    "valid200_nb201api": "nb201api_valid_accuracy",
    "nbsz_val": "nbsz_val_accuracy",
    "test12": "test_accuracy_12",
    "valid12": "valid_accuracy_12",
}
_VIT_DATASETS = {"c100": "cifar100", "flower": "flowers", "imagenet": "imagenet"}
_FAILED_FLOWERS = 50.0  # %; one run of ViT-Bench-101 has 48.6, the next has 65.7
_TRANSNAS_MACRO = 3256  # rows of the macro space, in an order documented nowhere


@typed
def convert(name: str, path: str | os.PathLike, space: Space) -> GroundTruth:
    """The table of a published file.

    Args:
        name: of the kind of file, one of `CONVERTERS`.
        path: of the file.
        space: of its genotypes; of files with several spaces it takes its own rows.

    Raises:
        ValueError: an unknown kind, or a file that is not of this kind or space.
        OSError: the file cannot be read.
    """
    if name not in CONVERTERS:
        raise ValueError(f"unknown kind of table {name!r}, known are {', '.join(CONVERTERS)}.")
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}.")
    return GroundTruth.from_records(CONVERTERS[name](path, space))


@typed
def scores(path: str | os.PathLike, space: Space, dataset: str) -> GroundTruth:
    """The table of a run of `lswag-score` or `lswag-search`.

    Args:
        path: scores.parquet or ranking.parquet, or their CSV.
        space: of its genotypes.
        dataset: what the scores are for.

    Returns:
        The proxies, `params` and `macs`; failures as their statuses say.

    Raises:
        ValueError: a column is missing, or a genotype is not of the space.
        OSError: the file cannot be read.
    """
    columns = table_files.read_wide(path, ("id", "params", "macs", "status"))
    texts, records = own_texts(columns["id"], space, path), []
    for name, values in columns.items():
        status = columns.get(f"{name}_status")
        if status is None and name not in ("params", "macs"):
            continue
        failed = np.isin("ok" if status is None else status, STATUSES[2:])
        values = np.where(failed, -np.inf, values.astype(np.float64))
        records.append(Records(dataset, name, texts, values, str(path)))
    return GroundTruth.from_records(records)


def _nbsz_json(path: pathlib.Path, space: Space) -> Iterator[Records]:
    """NAS-Bench-Suite-Zero's zc_*.json: data set -> architecture -> proxy -> score."""
    whole = _json(path)
    inner = list(whole.values()) if isinstance(whole, dict) else []
    if len(inner) == 1 and not _has_architectures(inner[0]):  # the first release names the space
        whole, inner = inner[0], list(inner[0].values()) if isinstance(inner[0], dict) else []
    if not inner or not all(map(_has_architectures, inner)):
        raise ValueError(f"{path} is not {{data set: {{architecture: {{proxy: score}}}}}}.")
    for dataset, rows in whole.items():
        texts = own_texts(rows, space, path, _from_naslib(space))
        columns = _columns(rows.values(), path)
        names = {name: (dataset, name) for name in columns}
        yield from _wide(columns, texts, names, _provenance(_NBSZ, path))


def _has_architectures(rows: Any) -> bool:
    return isinstance(rows, dict) and all(
        key.startswith(("(", "[")) and isinstance(row, dict) for key, row in rows.items()
    )


def _nbsz_csv(path: pathlib.Path, space: Space) -> Iterator[Records]:
    """Columns `dataset` and `arch`, then one a metric: NAS-Bench-Suite-Zero's values as CSV."""
    columns = table_files.read_wide(path, ("dataset", "arch"))
    texts = np.array(own_texts(columns["arch"], space, path, _from_naslib(space)), object)
    for dataset in dict.fromkeys(columns["dataset"]):
        rows = columns["dataset"] == dataset
        names = {name: (dataset, name) for name in columns if name not in ("dataset", "arch")}
        own = {name: columns[name][rows] for name in names}
        yield from _wide(own, list(texts[rows]), names, _provenance(_NBSZ, path))


def _nasbench201_csv(path: pathlib.Path, space: Space) -> Iterator[Records]:
    """All of NAS-Bench-201: one file of all data sets, or NASGraph's, one a data set."""
    if "arch str" in (columns := table_files.read_wide(path)):
        dataset = _named(path, "nasbench201_")
        metrics = ("train accuracy", "validation accuracy", "test accuracy")
        names = {metric: (dataset, metric.replace(" ", "_")) for metric in metrics}
        texts = own_texts(columns["arch str"], space, path)
    elif "arch_str" in columns:
        names = {name: _nasbench201_key(name) for name in columns}
        texts = own_texts(columns["arch_str"], space, path)
    else:
        raise ValueError(
            f"{path} has no column 'arch_str' or 'arch str', it has {', '.join(columns)}."
        )
    return _wide(columns, texts, names, _provenance("NAS-Bench-201", path))


def _nasbench201_key(name: str) -> tuple[str, str]:
    """Data set and metric of a column such as `cifar10_nbsz_nwot`; ("", "") for another."""
    if name == "params_M_cifar10":
        return "cifar10", "params_M"
    for prefix, dataset in _NB201_DATASETS.items():
        if name.startswith(f"{prefix}_"):
            metric = name.removeprefix(f"{prefix}_")
            return dataset, _NB201_ACCURACIES.get(metric, metric)
    return "", ""


def _nasbench101_npz(path: pathlib.Path, space: Space) -> Iterator[Records]:
    """All of NAS-Bench-101 as arrays: `num_vertices`, `adj_bits`, `ops`, `hash4` and metrics.

    There is an edge x -> y, x < y, where bit x + y (y - 1) / 2 of `adj_bits` is set.
    """
    columns = read_npz(path)
    structure = ("num_vertices", "adj_bits", "ops", "hash4")
    for name in structure:
        if name not in columns:
            raise ValueError(f"{path} has no array {name!r}, it has {', '.join(columns)}.")
    cells = zip(*(columns[name].tolist() for name in structure[:3]), strict=True)
    texts = [_nasbench101_text(*cell) for cell in cells]
    some = slice(None, None, max(len(texts) // 200, 1))
    for text, own in zip(texts[some], columns["hash4"][some], strict=True):
        if space.parse(text).spec_hash()[:8] != own.tobytes().hex():
            raise ValueError(f"{path}: the hash of {text} is not its own: another order of edges?")
    names = {name: ("cifar10", name) for name in columns if name not in structure}
    return _wide(columns, texts, names, _provenance("NAS-Bench-101", path))


def _nasbench101_text(vertices: int, bits: int, ops: Sequence[int]) -> str:
    """A pruned cell in the space's text, without the checks that take twenty times as long."""
    names = [*(OPS[op] for op in ops[: vertices - 2]), "output"]
    return "|".join(map("~".join, zip(names, _sources(vertices, bits), strict=True)))


@functools.cache
def _sources(vertices: int, bits: int) -> list[str]:
    """For each vertex but the first those with an edge to it."""
    into = {y: bits >> (y * (y - 1) // 2) for y in range(1, vertices)}
    return [",".join(str(x) for x in range(y) if into[y] >> x & 1) for y in into]


def _transnas_csv(path: pathlib.Path, space: Space) -> Iterator[Records]:
    """NASGraph's transbench101_TASK.csv: best epoch of each metric, one row an architecture.

    The last 4,096 rows are the micro space in the order of its codes. Losses are left out: of those
    the file has the worst epoch.
    """
    if space.name != "transnas_micro":
        raise ValueError(f"{path.name} names no architectures; only those of transnas_micro are "
                         f"known by their order, got {space.name}.")  # fmt: skip
    columns = table_files.read_wide(path)
    texts = [space.format(g) for g in space.genotypes()]  # pyright: ignore[reportAttributeAccessIssue]
    total = _TRANSNAS_MACRO + len(texts)
    if len(next(iter(columns.values()))) != total:
        raise ValueError(f"{path} must have all {total} rows, whose order names them.")
    skipped = ("time_elapsed", "file_id")
    names = {
        name: (_named(path, "transbench101_"), name)
        for name in columns
        if name not in skipped and "loss" not in name
    }
    own = {name: values[_TRANSNAS_MACRO:] for name, values in columns.items()}
    return _wide(own, texts, names, _provenance("TransNAS-Bench-101, best epoch", path))


def _autoprox_json(path: pathlib.Path, space: Space) -> Iterator[Records]:
    """Auto-Prox's list of {"arch": {...}, metric: accuracy}, saved as JSON."""
    rows = _json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is not a list of {{'arch': architecture, metric: accuracy}}.")
    texts = own_texts([row.pop("arch", None) for row in rows], space, path, _autoformer)
    return _vit(_columns(rows, path), texts, path)


def _vitbench_csv(path: pathlib.Path, space: Space) -> Iterator[Records]:
    """ViT-Bench-101 with a row an architecture."""
    columns = table_files.read_wide(path, ("hidden_dim", "num_heads", "mlp_ratio"))
    return _vit(columns, own_texts(_rows(columns), space, path, _autoformer), path)


def _vit(columns: Mapping[str, Any], texts: list[str], path: pathlib.Path) -> Iterator[Records]:
    """Columns called DATASET_..._acc, and the counts of CIFAR-100."""
    names = {"params_c100_calc": ("cifar100", "params"), "macs_c100_calc": ("cifar100", "macs")}
    for name in columns:
        if name.endswith("_acc"):
            dataset, metric = name.split("_", 1)
            names[name] = _VIT_DATASETS.get(dataset, dataset), metric
    columns = {name: np.asarray(values) for name, values in columns.items() if name in names}
    if "flower_kd_acc" in columns:
        kd = columns["flower_kd_acc"].astype(np.float64)
        columns["flower_kd_acc"] = np.where(kd < _FAILED_FLOWERS, -np.inf, kd)
    return _wide(columns, texts, names, _provenance("ViT-Bench-101", path))


def _autoformer_csv(path: pathlib.Path, space: Space) -> Iterator[Records]:
    """Sub-networks of AutoFormer's super-networks, of the space's rows alone."""
    columns = table_files.read_wide(path, ("space", "embed_dim", "num_heads", "mlp_ratio"))
    rows = columns["space"] == space.name.removeprefix("autoformer_")
    if not rows.any():
        raise ValueError(f"{path} has no row of {space.name}.")
    own = {name: values[rows] for name, values in columns.items()}
    texts = own_texts(_rows(own), space, path, _autoformer)
    names = {"params_M": ("imagenet", "params_M"), "flops_M": ("imagenet", "flops_M")}
    for name in own:
        dataset, _, metric = name.partition("_")
        if dataset in ("imagenet", "imagenetc"):
            names[name] = {"imagenetc": "imagenet-c"}.get(dataset, dataset), metric
    return _wide(own, texts, names, _provenance("AutoFormer super-network", path))


def _wide(
    columns: Mapping[str, np.ndarray],
    texts: Sequence[str],
    names: Mapping[str, tuple[str, str]],
    provenance: str,
) -> Iterator[Records]:
    """Records of the columns that `names` gives a data set and a metric, numbers only.

    Raises:
        ValueError: a column of numbers has a text.
    """
    for name, (dataset, metric) in names.items():
        values = columns.get(name)
        if not dataset or values is None or name in _ORDINALS:
            continue
        if values.dtype != object:
            yield Records(dataset, metric, texts, values.astype(np.float64), provenance)
            continue
        strange = [value for value in values if value is not None and not _is_number(value)]
        if 0 < len(strange) < len(values) / 2:  # else a column of texts, no metric
            raise ValueError(
                f"column {name!r} of {provenance} must hold numbers, got {strange[0]!r}."
            )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _rows(columns: Mapping[str, np.ndarray]) -> Iterable[dict[str, Any]]:
    """Rows of an architecture's columns, with lists for their texts."""
    width = "hidden_dim" if "hidden_dim" in columns else "embed_dim"
    for dim, *texts in zip(*(columns[k] for k in (width, "num_heads", "mlp_ratio")), strict=True):
        try:
            heads, ratios = (ast.literal_eval(text) for text in texts)
        except (ValueError, SyntaxError, TypeError):
            what = ", ".join(repr(text) for text in texts)
            raise ValueError(f"num_heads and mlp_ratio must be lists, got {what}.") from None
        yield {"hidden_dim": dim, "num_heads": heads, "mlp_ratio": ratios}


def _autoformer(arch: Mapping[str, Any]) -> AutoFormerGenotype:
    keys = ("hidden_dim", "num_heads", "mlp_ratio")
    if not isinstance(arch, Mapping) or not set(keys) <= set(arch):
        raise ValueError(f"an AutoFormer architecture has {', '.join(keys)}, got {arch!r}.")
    return AutoFormerGenotype(*(arch[key] for key in keys))


def _from_naslib(space: Space) -> Callable[[str], Any]:
    return lambda text: space.genotype_class.from_naslib(ast.literal_eval(text))


def _json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _columns(rows: Iterable[Mapping[str, Any]], path: pathlib.Path) -> dict[str, np.ndarray]:
    """Numbers of rows by name; NaN where a row has none, -inf where it is not finite."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([_score(row.get(name), path) for row in rows]) for name in names}


def _score(entry: Any, path: pathlib.Path) -> float:
    """A number, or that of {"score": number}."""
    value = entry.get("score") if isinstance(entry, dict) else entry
    if value is None:
        return np.nan
    if not isinstance(value, int | float):
        raise ValueError(f"scores of {path} must be numbers, got {value!r}.")
    return float(value) if np.isfinite(value) else -np.inf


def _named(path: pathlib.Path, prefix: str) -> str:
    """What a file's name says after its prefix."""
    stem = path.name.split(".")[0]
    if not stem.startswith(prefix):
        raise ValueError(f"the name of {path} must be {prefix}NAME.csv, which says the data set.")
    return stem.removeprefix(prefix)


def _provenance(what: str, path: pathlib.Path) -> str:
    return f"{what}: {path.name}"


CONVERTERS: dict[str, Callable[[pathlib.Path, Space], Iterable[Records]]] = {
    "nbsz_json": _nbsz_json,
    "nbsz_csv": _nbsz_csv,
    "nasbench201_csv": _nasbench201_csv,
    "nasbench101_npz": _nasbench101_npz,
    "transnas_csv": _transnas_csv,
    "autoprox_json": _autoprox_json,
    "vitbench_csv": _vitbench_csv,
    "autoformer_csv": _autoformer_csv,
}
