"""Zero-cost proxies: one short file each, and the registry."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from lswag_jax import own
from lswag_jax.files import nearest_first
from lswag_jax.options import typed
from lswag_jax.proxies.activation_proxies import Nwot, Swap
from lswag_jax.proxies.az_nas import AzExpressivity, AzNas, AzProgressivity, AzTrainability
from lswag_jax.proxies.base import COLUMNS, NotApplicable, Proxy, finish, is_own
from lswag_jax.proxies.costs import Cost, Latency, Memory
from lswag_jax.proxies.dextr import Dextr
from lswag_jax.proxies.dss import AutoProxA, Dss
from lswag_jax.proxies.fisher import Fisher
from lswag_jax.proxies.gradsign import GradSign
from lswag_jax.proxies.grasp import Grasp
from lswag_jax.proxies.gsnr import Gsnr
from lswag_jax.proxies.input_jacobian import EpeNas, Jacov
from lswag_jax.proxies.intrain import InTrain
from lswag_jax.proxies.lswag import LSwag
from lswag_jax.proxies.lswag_kernel import LSwagKernel
from lswag_jax.proxies.lswag_variant import LSwagVariant
from lswag_jax.proxies.meco import MeCo
from lswag_jax.proxies.size import Macs, Params
from lswag_jax.proxies.synflow import LogSynFlow, SynFlow
from lswag_jax.proxies.t_cet import TCet
from lswag_jax.proxies.te_nas import LinearRegions, Ntk, TeNas
from lswag_jax.proxies.vkdnw import Vkdnw
from lswag_jax.proxies.weight_gradients import GradNorm, L2Norm, Plain, Snip
from lswag_jax.proxies.zen import Zen
from lswag_jax.proxies.zico import ZiCo

_ALL = (
    *(LSwag, LSwagKernel, ZiCo, Swap, Nwot),
    *(Snip, Grasp, Fisher, GradNorm, Plain, L2Norm, SynFlow, LogSynFlow, GradSign, Gsnr),
    *(Jacov, EpeNas, Zen, MeCo, Ntk, LinearRegions, TeNas, TCet),
    *(AzExpressivity, AzProgressivity, AzTrainability, AzNas, Dss, AutoProxA),
    *(Dextr, InTrain, Vkdnw),
    *(Params, Macs),
)
PROXIES: dict[str, type[Proxy]] = {proxy.name: proxy for proxy in _ALL}
# Measured on the device at hand, only where they are named: no group holds them.
COSTS: dict[str, type[Proxy]] = {cost.name: cost for cost in (Latency, Memory)}
CLASSES = PROXIES | COSTS
# Classes with all options of a proxy whose own class has only the common ones.
VARIANTS: dict[str, type[Proxy]] = {"lswag": LSwagVariant}
OWN: dict[str, Proxy] = {}  # a user's, once they were named as `module:NAME`
ONE_PROGRAM = 12  # proxies that are always compiled together

GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(PROXIES),
    "gradient_based": tuple(n for n, p in PROXIES.items() if p.computes_gradients()),
    "gradient_free": tuple(n for n, p in PROXIES.items() if not p.computes_gradients()),
    "data_free": tuple(n for n, p in PROXIES.items() if p.data == "none"),
}


def names() -> tuple[str, ...]:
    """Names of the zero-cost proxies; `get` also knows `COSTS`, and `module:NAME` of your own."""
    return tuple(PROXIES)


@typed
def get(name: str, **options: Any) -> Proxy:
    """The proxy called `name` with these options.

    Args:
        name: one of `names()` or `COSTS`, or `module:NAME` of your own proxy (or of a class or
            function that makes one). After that call its own name is known here too.
        **options: of a proxy of the package; your own takes none.

    Raises:
        ValueError: an unknown name (the known ones are listed, nearest first) or option.

    Example:
        >>> get("lswag", window=(4, 9)).window
        (4, 9)
    """
    if own.is_named(name):
        name = named(name)
    if name in OWN and not options:
        return OWN[name]
    if name in OWN:
        raise ValueError(
            f"proxy {name} is your own: name it as module:NAME with its options, got "
            f"{', '.join(options)}."
        )
    if name not in CLASSES:
        raise ValueError(
            f"unknown proxy {name!r}, known are {nearest_first(name, CLASSES)}, and module:NAME of "
            "your own."
        )
    cls = CLASSES[name]
    variant = VARIANTS.get(name, cls)
    known = [field.name for field in dataclasses.fields(variant)]
    for option in options:
        if option not in known:
            raise ValueError(
                f"proxy {name} has no option {option!r}, known are {', '.join(known) or 'none'}."
            )
    chosen = variant(**options)
    plain = {field.name for field in dataclasses.fields(cls)}
    changed = {f.name for f in dataclasses.fields(variant) if getattr(chosen, f.name) != f.default}
    # The plain class where its options suffice, so that equal configurations are equal.
    return cls(**{k: v for k, v in options.items() if k in plain}) if changed <= plain else chosen


@typed
def named(text: str) -> str:
    """What tables call a proxy: `module:NAME` becomes its name, any other text stays.

    A proxy of your own is imported, and from then on known to `get` by its name.

    Raises:
        ValueError: as `own.make`, or it is called as one of the package.

    Example:
        >>> named("lswag")
        'lswag'
        >>> named("lswag_jax.proxies:Swap")
        Traceback (most recent call last):
        ValueError: lswag_jax.proxies:Swap is called 'swap', as one of the package: rename it.
    """
    if not own.is_named(text):
        return text
    proxy = own.make(text, Proxy)
    if not isinstance(getattr(proxy, "name", None), str):
        raise ValueError(f"the proxy {text} has no name: give its class one.")
    if proxy.key in CLASSES or proxy.key in GROUPS:
        raise ValueError(f"{text} is called {proxy.key!r}, as one of the package: rename it.")
    _check_key(proxy)
    OWN[proxy.key] = proxy
    return proxy.key


def resolve(proxies: str | Proxy | Iterable[str | Proxy]) -> tuple[Proxy, ...]:
    """Proxies from names, configured proxies and names of groups (`GROUPS`).

    Args:
        proxies: one or several names (`names()`, `COSTS`, `module:NAME`), groups or `Proxy`
            objects.

    Returns:
        The proxies in this order, each with its own `key`; a group stands for its members.

    Raises:
        ValueError: none, one of another type, an unknown name, a name twice, or a label that
            tables need for another column.

    Example:
        >>> [proxy.key for proxy in resolve(["lswag", get("swap", binarize="sign3")])]
        ['lswag', 'swap']
    """
    if not isinstance(proxies, Iterable | Proxy):
        raise ValueError(f"proxies must be names or configured proxies, got {proxies!r}.")
    items = (proxies,) if isinstance(proxies, str | Proxy) else tuple(proxies)
    for item in items:
        if not isinstance(item, str | Proxy):
            raise ValueError(f"a proxy is a name or a Proxy, got {item!r}.")
    resolved = tuple(get(item) if isinstance(item, str) else item for item in expand(items))
    keys = [proxy.key for proxy in resolved]
    if not resolved or len(set(keys)) < len(keys):
        raise ValueError(
            f"proxies must be at least one, each with its own name or label, got {keys}."
        )
    for proxy in resolved:
        _check_key(proxy)
    return resolved


def _check_key(proxy: Proxy) -> None:
    """Raises ValueError where tables and fitnesses cannot call a proxy by its name or label."""
    if proxy.key == proxy.name and not is_own(proxy):
        return
    what = f"{'label' if proxy.label else 'name'} of a proxy"
    if proxy.key in COLUMNS:
        raise ValueError(
            f"the {what} must not be that of another column of tables, {', '.join(COLUMNS)}, got "
            f"{proxy.key!r} for {proxy.name}."
        )
    if not proxy.key.strip() or proxy.key[0] in "+-" or not proxy.key.isprintable():
        raise ValueError(f"the {what} must be a text without + or - in front, got {proxy.key!r}.")
    if "," in proxy.key and not proxy.label:  # which parts names on a command line
        raise ValueError(f"the {what} must have no comma, got {proxy.key!r}.")


def programs(proxies: Iterable[Proxy]) -> list[tuple[Proxy, ...]]:
    """The sets in which proxies are compiled: all that are measured, or of many each family.

    Proxies of one program share passes, but one of very many takes too long to compile.

    Example:
        >>> len(programs(resolve(["zico", "jacov", "snip"]))), len(programs(resolve("all")))
        (1, 5)
    """
    measured = tuple(proxy for proxy in proxies if proxy.passes)
    if len(measured) <= ONE_PROGRAM:
        return [measured]
    families: dict[str, list[Proxy]] = {}
    for proxy in measured:
        families.setdefault(proxy.family, []).append(proxy)
    return [tuple(family) for family in families.values()]


@typed
def expand(items: Iterable[str | Proxy]) -> list[str | Proxy]:
    """Replaces the name of each group by its members that the items lack so far.

    Example:
        >>> expand(["macs", "data_free"])[:3]
        ['macs', 'l2_norm', 'synflow']
    """
    found: list[str | Proxy] = []
    for item in items:
        if isinstance(item, str) and item in GROUPS:
            found += [name for name in GROUPS[item] if name not in found]
        else:
            found.append(item)
    return found


__all__ = [
    "CLASSES",
    "COSTS",
    "GROUPS",
    "OWN",
    "PROXIES",
    "VARIANTS",
    "AutoProxA",
    "AzExpressivity",
    "AzNas",
    "AzProgressivity",
    "AzTrainability",
    "Cost",
    "Dextr",
    "Dss",
    "EpeNas",
    "Fisher",
    "GradNorm",
    "GradSign",
    "Grasp",
    "Gsnr",
    "InTrain",
    "Jacov",
    "L2Norm",
    "LSwag",
    "LSwagKernel",
    "LSwagVariant",
    "Latency",
    "LinearRegions",
    "LogSynFlow",
    "Macs",
    "MeCo",
    "Memory",
    "NotApplicable",
    "Ntk",
    "Nwot",
    "Params",
    "Plain",
    "Proxy",
    "Snip",
    "Swap",
    "SynFlow",
    "TCet",
    "TeNas",
    "Vkdnw",
    "Zen",
    "ZiCo",
    "expand",
    "finish",
    "get",
    "named",
    "names",
    "programs",
    "resolve",
]
