"""Batches of bytes from a pool: read at random by grain, changed at random, the same every time.

The batch of a step depends on the seed and the number of the step only, so that a training that
resumes from a checkpoint sees what it would have seen.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from lswag_jax.data import Pool, label_of
from lswag_jax.extras import extra
from lswag_jax.training.augment import AugmentOptions, evaluation_image, training_image

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Batches of a pool.

    Attributes:
        pool: of the examples.
        image_size, channels: of the network.
        batch_size: examples of a batch; a training needs as many, a validation is filled up.
        augment: what training does to an image.
        seed: of order and changes.
        workers: processes that read; 0 for threads of this one.
    """

    pool: Pool
    image_size: int
    channels: int
    batch_size: int
    augment: AugmentOptions
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}.")

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; what is left over comes in another epoch's.

        Raises:
            ValueError: there is none.
        """
        if self.batch_size > self.pool.size:
            raise ValueError(
                f"batch_size must be from 1 to the {self.pool.size} images of {self.pool.where}, "
                f"got {self.batch_size}."
            )
        return self.pool.size // self.batch_size

    def training(self, start: int = 0) -> Iterator[Batch]:
        """Batches `image` [B, H, W, C] uint8 and `label` [B] int32, without end.

        Args:
            start: number of the first step.
        """
        with extra("train"):
            import grain

        batches = (
            grain.MapDataset.source(_Source(self.pool))
            .seed(self.seed)
            .shuffle()
            .repeat()
            .random_map(self._training_example)
            .batch(self.batch_size, drop_remainder=True)
        )
        batches = batches[start:].to_iter_dataset(
            grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
        )
        if self.workers:
            if not flags.FLAGS.is_parsed():  # in a notebook; grain reads flags
                flags.FLAGS.mark_as_parsed()
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(self.workers, 2))
        return iter(batches)

    def _training_example(self, i: Any, rng: np.random.Generator) -> Batch:
        pool = self.pool
        image = training_image(
            pool.image(i), pool.where, self.channels, self.image_size, self.augment, rng
        )
        return {"image": image, "label": np.int32(label_of(pool, i))}

    def validation(self) -> Iterator[Batch]:
        """Every example once, in order: also `weight` [B], 0 for what fills the last batch up."""
        with extra("train"):
            import grain

        examples = grain.MapDataset.source(_Source(self.pool)).map(self._validation_example)
        batches = examples.batch(self.batch_size).to_iter_dataset(
            grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
        )
        for batch in batches:
            count = len(batch["label"])
            batch["weight"] = np.ones(count, np.float32)
            yield {key: _fill(value, self.batch_size - count) for key, value in batch.items()}

    def _validation_example(self, i: Any) -> Batch:
        pool = self.pool
        image = evaluation_image(
            pool.image(i), pool.where, self.channels, self.image_size, self.augment
        )
        return {"image": image, "label": np.int32(label_of(pool, i))}


class _Source:
    """Numbers of the examples, for grain to shuffle."""

    def __init__(self, pool: Pool) -> None:
        self._size = pool.size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, i: int) -> int:
        return int(i)


def _fill(array: np.ndarray, num: int) -> np.ndarray:
    return np.pad(array, [(0, num)] + [(0, 0)] * (array.ndim - 1))
