"""How a population is scored: one set of options for every way of asking."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import jax

from lswag_jax.options import Checked, Count, Seed, Several, Size, typed_methods

BatchNormMode = Literal["frozen", "eval", "batch1_train", "through"]
Precision = Literal["default", "high", "highest", "bfloat16", "tensorfloat32", "float32"]


@typed_methods
@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreOptions(Checked):
    """Keywords of `score` and of all that scores through it.

    Attributes:
        seed: of the initial weights, and of what proxies draw; repeat r uses seed + r.
        repeats: initialisations; scores are averaged, `ScoreTable.per_repeat` keeps each.
        gradient_batch: number of first samples that form the gradient batch; None takes all. The
            pattern batch is always the whole batch.
        batch_size: architectures evaluated at once on each device; None is 1 on a CPU and 8
            elsewhere, and always 1 where networks are chains (`Space.chain`).
        batch_norm: mode of BatchNorm in which per-sample gradients are taken: "frozen" takes the
            batch's statistics as constants, "eval" uses the running ones, "batch1_train"
            normalises each sample by itself, "through" differentiates through the statistics.
        loss: per-sample loss of (logits, labels); None for that of the task.
        precision: of matrix products, see `jax.default_matmul_precision`.
        devices: of this process, over which each chunk is split; a chain runs on the first. None
            takes all, and in a job of several processes (`jax.distributed`) also the other
            processes': all of them then make the same calls and receive the same rows.

    Raises:
        ValueError: a value that is not allowed.
    """

    seed: Seed = 0
    repeats: Size = 1
    gradient_batch: Several | None = None
    batch_size: Count | None = None
    batch_norm: BatchNormMode = "frozen"
    loss: Callable | None = None
    precision: Precision = "highest"
    devices: Sequence[jax.Device] | None = None  # pyright: ignore[reportInvalidTypeForm]

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            hash(self.loss)  # compiled programs are kept by it
        except TypeError:
            kind = type(self.loss).__qualname__
            raise ValueError(f"loss must be hashable, got an unhashable {kind}.") from None

    @classmethod
    def parse(cls, keywords: dict[str, Any]) -> Self:
        """The options of a call's keywords.

        Raises:
            ValueError: a keyword that is no option.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in keywords:
            if name not in known:
                raise ValueError(f"scoring has no option {name!r}, known are {', '.join(known)}.")
        return cls(**keywords)

    def keywords(self) -> dict[str, Any]:
        """The options as the keywords that `score` takes."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def seeds(self) -> range:
        """Seed of each repeat."""
        return range(self.seed, self.seed + self.repeats)

    @property
    def members_at_once(self) -> int:
        """Architectures evaluated at once on each device."""
        return self.batch_size or (1 if jax.default_backend() == "cpu" else 8)

    def describe(self) -> dict[str, Any]:
        """What decides the scores, as plain values: not where and in what portions they run."""
        decisive = ("seed", "repeats", "gradient_batch", "precision", "batch_norm")
        loss = getattr(self.loss, "__qualname__", type(self.loss).__qualname__)
        named = {"loss": loss} if self.loss else {}
        return {name: getattr(self, name) for name in decisive} | named
