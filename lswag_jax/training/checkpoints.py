"""Checkpoints of a training, by orbax: each complete, and of one run only."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax

from lswag_jax.extras import extra

KEEP = 2


@contextlib.contextmanager
def saving(refusal: str) -> Iterator[None]:
    """Raises OSError, one sentence that begins with `refusal`, where the disk takes no more.

    Of a full disk orbax raises what tensorstore does: ValueError or RuntimeError.

    Example:
        >>> with saving("the weights cannot be saved"):
        ...     raise ValueError("no space left\\ninternal details")
        Traceback (most recent call last):
        OSError: the weights cannot be saved: no space left.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise OSError(f"{refusal}: {reason}.") from error


class Checkpoints:
    """The newest checkpoints of a run in a folder; an older one goes when a newer one is whole.

    Saving waits until everything is on the disk, so that an error of the disk is raised by it.

    Args:
        folder: of the checkpoints; made if absent.
        run: what the run is, plain values; a checkpoint of another one is refused.
    """

    def __init__(self, folder: str | os.PathLike, run: Mapping[str, Any]) -> None:
        with extra("train"):
            import orbax.checkpoint as ocp

        self.folder, self._run, self._ocp = pathlib.Path(folder), dict(run), ocp
        self._manager = ocp.CheckpointManager(
            self.folder.resolve(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=KEEP, enable_async_checkpointing=False, create=True
            ),
        )

    def save(self, step: int, state: Any) -> None:
        """Saves a state, unless this step's exists.

        Raises:
            OSError: the state cannot be written, for example on a full disk; earlier checkpoints
                stay.
        """
        if step in self._manager.all_steps():
            return
        args = self._ocp.args
        with saving(f"checkpoint {step} cannot be saved to {self.folder}, earlier ones stay"):
            self._manager.save(
                step,
                args=args.Composite(state=args.StandardSave(state), run=args.JsonSave(self._run)),
                force=True,
            )

    def restore(self, state: Any) -> Any:
        """The newest state, in the shapes and on the devices of `state`; None without one.

        Raises:
            ValueError: it is of another run.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        args = self._ocp.args
        there = self._manager.restore(step, args=args.Composite(run=args.JsonRestore())).run
        if there != self._run:
            raise ValueError(f"{self.folder} holds checkpoints of another run.")
        template = jax.tree.map(self._ocp.utils.to_shape_dtype_struct, state)
        composite = args.Composite(state=args.StandardRestore(template))
        return self._manager.restore(step, args=composite).state

    def close(self) -> None:
        """Ends the manager."""
        self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
