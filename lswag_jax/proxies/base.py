"""What every proxy is: a few options, a pure measurement, and how its results are read."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from lswag_jax import own
from lswag_jax.options import Checked
from lswag_jax.probe import Probe
from lswag_jax.proxies.merge import merge
from lswag_jax.spaces.depth import BinRange

Parts = dict[str, Any]
# Columns of tables besides those of proxies, and entries of rows; some are proxies of these names.
COLUMNS = ("id", "genotype", "params", "macs", "seconds", "status", "rank", "fitness")
COLUMNS += ("latency", "memory", "degenerate", "parts", "costs", "coverage", "reason", "error")
COLUMNS += ("generation",)


class NotApplicable(Exception):
    """Raised by a proxy whose quantity does not exist for this kind of network."""


@dataclasses.dataclass(frozen=True)
class Proxy(Checked):
    """Base of the proxies; the fields of a subclass are its options.

    A proxy measures one architecture on the device (`measure`), finishes the measurement of each
    architecture on the host in float64 (`finish`), and may need the whole pool to make scores of
    its parts (`pool`). Scores are oriented: larger is predicted better.
    """

    label: str = dataclasses.field(default="", kw_only=True)
    name: ClassVar[str]
    paper: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()  # "gradients", "patterns", "weights"
    data: ClassVar[str] = "images and labels"  # or "images", or "none"
    family: ClassVar[str] = "batch"  # those that share passes, see docs/proxies.md
    gradients: ClassVar[bool | None] = None  # whether it computes gradients; None as it needs
    networks: ClassVar[str] = "any"  # what a network must have for it to apply
    weakness: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True  # of the quantity as published, before orientation
    is_zero_cost: ClassVar[bool] = True  # False of what needs trained weights

    @property
    def key(self) -> str:
        """What tables call it: its label, so that one proxy can stand with several options."""
        return self.label or self.name

    @property
    def passes(self) -> frozenset[str]:
        """The passes this configuration reads: of "gradients", "patterns"."""
        return self.needs

    @property
    def samples(self) -> bool | None:
        """Which per-sample moments it reads.

        True those of |g|, False those of g, None no per-sample moments.
        """
        return None

    @property
    def batches(self) -> int:
        """Number of mini-batches whose gradients it reads; 1 for those of the whole batch."""
        return 1

    @classmethod
    def computes_gradients(cls) -> bool:
        """Whether it runs a backward pass."""
        return "gradients" in cls.needs if cls.gradients is None else cls.gradients

    def layers_read(self, bin_range: BinRange) -> np.ndarray:
        """Whether the gradient of each weight layer is read, bool [L].

        Args:
            bin_range: lowest and highest depth bin that each layer can have, by the rule.
        """
        return np.ones(bin_range("zero_based").shape[1], bool)

    def measure(self, probe: Probe) -> Parts:
        """Parts of one architecture, among them `score`; traced under jit and vmap.

        Proxies without passes, such as `params`, have none: a column of the table is their score.
        """
        del probe
        return {}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Parts worth keeping, of arrays with a leading axis P; may replace `score`."""
        return dict(parts)

    def is_degenerate(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Where nothing could be measured, from finished parts; in the shape of `score`."""
        return np.zeros(np.shape(parts["score"]), bool)

    def is_undefined(self, parts: Mapping[str, np.ndarray]) -> np.ndarray | bool:
        """Where the quantity is not a number since it does not exist, in the shape of `score`."""
        del parts
        return False

    def pool(
        self, parts: Mapping[str, np.ndarray], degenerate: np.ndarray | bool = False
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Scores of a pool, by one rule for all its members and repeats.

        Args:
            parts: finished, arrays [P, ...] or with repeats [P, R, ...]; and `params` and `macs`
                [P, 1] of the architectures.
            degenerate: [P] or [P, R], architectures whose logits do not depend on the input.

        Returns:
            Scores and status in the shape of `parts["score"]`, and the rule's name.
        """
        scores = np.asarray(parts["score"], np.float64)
        return self._oriented(scores), self._status(scores, parts, degenerate), "score"

    def _oriented(self, values: np.ndarray) -> np.ndarray:
        return values if self.higher_is_better else -values

    def _status(self, values, parts, degenerate) -> np.ndarray:
        """ok, degenerate, nan or inf of each of `values`."""
        status = np.full(values.shape, "ok", dtype=object)
        status[self.is_degenerate(parts) | np.asarray(degenerate, bool)] = "degenerate"
        status[np.isinf(values)] = "inf"
        status[np.isnan(values)] = "nan"
        status[np.broadcast_to(self.is_undefined(parts), values.shape)] = "degenerate"
        return status


def finish(proxy: Proxy, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Finished parts of a proxy, of one that is not applicable as they are.

    Raises:
        ValueError: a user's own method fails, or returns something else than arrays by name.
    """
    if "not_applicable" in parts:
        return dict(parts)
    with blamed(proxy, "finish"):
        finished = proxy.finish(parts)
    number = len(parts["score"])
    is_dict = isinstance(finished, Mapping) and "score" in finished
    if not is_dict or np.shape(finished["score"]) != (number,):
        raise ValueError(
            f"finish of the proxy {proxy.key} must return a dict with 'score', an array of "
            f"{number} numbers."
        )
    for name, value in finished.items():
        if np.shape(value)[:1] != (number,):
            raise ValueError(
                f"finish of the proxy {proxy.key} must return arrays with a row for each of "
                f"{number} networks, got {name!r} of shape {np.shape(value)}."
            )
    return dict(finished)


def is_own(proxy: Proxy) -> bool:
    """Whether a proxy is a user's own."""
    return not type(proxy).__module__.startswith("lswag_jax.")


@contextlib.contextmanager
def blamed(proxy: Proxy, method: str) -> Iterator[None]:
    """Names a user's own proxy, and its method, where that raises."""
    try:
        yield
    except NotApplicable:
        raise
    except own.FAULTS as error:
        if not is_own(proxy):
            raise
        raise own.fault(f"{method} of the proxy {proxy.key} failed", error) from error


def role(name: str) -> str:
    """The last part of a layer's name, without the index in a stack.

    Example:
        >>> role("blocks/attn/qkv[2]")
        'qkv'
    """
    return name.rpartition("/")[2].partition("[")[0]


def is_attention(name: str) -> bool:
    """Whether a layer's name ends as those of attention's linear layers do.

    Example:
        >>> is_attention("blocks_0/attn/qkv"), is_attention("blocks_0/mlp/fc1")
        (True, False)
    """
    return role(name) in ("qkv", "proj", "query", "key", "value", "out")


def where_finite(parts: Mapping[str, np.ndarray], score: np.ndarray) -> np.ndarray:
    """The host's score; NaN where the device's is NaN, as for logits that are not finite."""
    return np.where(np.isnan(np.asarray(parts.get("score", 0.0), np.float64)), np.nan, score)


def eigenvalues(kernels: np.ndarray) -> np.ndarray:
    """Ascending eigenvalues [..., B] of symmetric matrices [..., B, B] in float64.

    NaN of a matrix that is not finite.
    """
    kernels = np.asarray(kernels, np.float64)
    good = np.asarray(np.isfinite(kernels).all((-2, -1)))[..., None]
    return np.where(good, np.linalg.eigvalsh(np.where(good[..., None], kernels, 0.0)), np.nan)


def log_determinants(kernels: np.ndarray) -> np.ndarray:
    """log det [...] of positive semidefinite matrices [..., B, B] in float64.

    -inf of one that is singular up to rounding, in any order of its rows; NaN of one that is
    not finite.

    Example:
        >>> log_determinants(np.array([np.diag([2.0, 3.0]), np.ones((2, 2))])).round(3)
        array([1.792,  -inf])
    """
    with np.errstate(divide="ignore"):
        return np.log(definite_eigenvalues(kernels)).sum(-1)


def definite_eigenvalues(kernels: np.ndarray) -> np.ndarray:
    """Ascending eigenvalues of positive semidefinite matrices; those within rounding of 0 are 0.

    Rounding is B eps times the largest, with the eps of the matrices' type (float64's for
    integers).

    Example:
        >>> definite_eigenvalues(np.array([[1, 1 + 1e-8], [1 + 1e-8, 1]], np.float32)).tolist()
        [0.0, 2.0]
    """
    kind = np.asarray(kernels).dtype
    eps = np.finfo(kind if np.issubdtype(kind, np.floating) else np.float64).eps
    v = eigenvalues(kernels)
    return np.where(v <= v.shape[-1] * eps * v[..., -1:], 0.0, v)


def merged(columns: Sequence[np.ndarray], status: np.ndarray, rule: str) -> np.ndarray:
    """Several measurements [P] or [P, R] of a pool as one score, repeat by repeat; see `merge`.

    Failed and undefined values share the worst ranks; a network with status `nan` has no score.
    """
    values_K = np.stack([np.where((status == "ok") & ~np.isnan(c), c, -np.inf) for c in columns])
    if values_K.ndim == 2:
        scores = merge(values_K, rule)
    else:
        scores = np.stack([merge(v, rule) for v in np.moveaxis(values_K, -1, 0)], -1)
    return np.where(status == "nan", np.nan, scores)
