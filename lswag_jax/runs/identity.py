"""Identity of a run: a workdir with rows of another run is refused."""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from lswag_jax.proxies import Cost, Proxy
from lswag_jax.scoring import ScoreOptions
from lswag_jax.spaces import Space


def describe(
    space: Space, proxies: Iterable[Proxy], options: ScoreOptions, **more: Any
) -> dict[str, Any]:
    """What decides the rows of a run, as plain values.

    Args:
        space, proxies: of the run.
        options: how it scores; where it runs and in what portions does not count.
        **more: further entries, such as those of a search.
    """
    proxies = tuple(proxies)
    return {
        "space": space.describe(),
        "proxies": {p.key: {"name": p.name} | dataclasses.asdict(p) for p in proxies},
        "score": options.describe(),
        **device(proxies),
    } | more


def device(proxies: Iterable[Proxy]) -> dict[str, str]:
    """The kind of device, where a proxy is a cost that is measured on it."""
    is_measured = any(isinstance(proxy, Cost) for proxy in proxies)
    return {"device": jax.local_devices()[0].device_kind} if is_measured else {}


def data_sha256(*arrays: Any) -> str:
    """Checksum of arrays, with their shapes and dtypes."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
