"""Pruning search: a super-network loses the operations that it misses least.

Source: VITA-Group/TENAS (Chen et al., ICLR 2021). In a round every removal of one operation from
one edge is scored with the weights of the whole super-network. With z a proxy's score, larger is
better,

    loss_z = mean over repeats of (z_whole - z_without) / |z_whole|

and the removals are ranked by -loss, all edges together; several proxies are merged by the
fitness's rule. On every edge the first `prune_number` of them are made, until one operation is
left. TE-NAS has the proxies `ntk` and `linear_regions`, the rule "dense_rank_sum" and three
decimals. Repeats differ in weights and crops, where TE-NAS's differ in images.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lswag_jax.options import Checked, Count, Natural
from lswag_jax.runs.archive import Archive, Evaluate, check_complete, extend
from lswag_jax.scoring.fitness import Fitness
from lswag_jax.scoring.rows import Row
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.spaces import OpSets, Supernet

Removal = tuple[int, str]
ScoreRemovals = Callable[[Sequence[Row]], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruningOptions(Checked):
    """Options of a pruning search, which draws nothing at random and so has no seed.

    Args:
        prune_number: operations that an edge loses in a round, but for its last one: TE-NAS has 1
            on NAS-Bench-201, 3 on DARTS with CIFAR-10 and 2 with ImageNet.
        decimals: of a repeat's relative loss; None keeps all, TE-NAS has 3.

    Raises:
        ValueError: an option outside its range.
    """

    prune_number: Count = 1
    decimals: Natural | None = None


class Group(NamedTuple):
    """Removals that compete, and how many of them are made."""

    removals: list[Removal]
    number: int


def search(
    space: Supernet,
    evaluate: Evaluate,
    score_removals: ScoreRemovals,
    options: PruningOptions,
    archive: list[Row] | Archive,
) -> OpSets:
    """Prunes round by round; resumes where the archive ends.

    A round evaluates the network as it is and then without each operation; at the end the result
    is evaluated by itself. Where the space's networks have fewer edges, those of one node at a
    time are removed in the same way.

    Args:
        space: the super-network.
        evaluate: yields a row for each genotype, in order.
        score_removals: scores the removals of a round [P - 1] from its rows, the first of which is
            the whole network's; the largest is made first, of equals the earlier.
        options: see `PruningOptions`.
        archive: receives the rows.

    Returns:
        The operations that are left; the last row is their network's.

    Raises:
        ValueError: the archive is of another search.

    Example:
        >>> from lswag_jax import spaces
        >>> space, archive = spaces.supernet_of(spaces.get("nasbench201")), []
        >>> rows = lambda genotypes: ({"id": space.format(g)} for g in genotypes)
        >>> left = search(space, rows, lambda r: -np.arange(len(r) - 1), PruningOptions(), archive)
        >>> set(left.ops), len(archive)
        ({'avg_pool_3x3'}, 58)
    """
    sets, size = space.full, 0
    while groups := next_round(space, sets, options.prune_number):
        removals = [removal for group in groups for removal in group.removals]
        genotypes = [sets, *(sets.without(*removal) for removal in removals)]
        stop = extend(archive, size, space, genotypes, evaluate)
        order = np.argsort(-np.asarray(score_removals(archive[size:stop])), kind="stable")
        place = {removals[i]: rank for rank, i in enumerate(order)}
        for group in groups:
            for removal in sorted(group.removals, key=place.__getitem__)[: group.number]:
                sets = sets.without(*removal)
        size = stop
    check_complete(archive, extend(archive, size, space, [sets], evaluate))
    return sets


def next_round(space: Supernet, sets: OpSets, prune_number: int) -> list[Group]:
    """What competes in the next round: the operations of each edge, or the edges of one node.

    Args:
        space: the super-network.
        sets: what is left.
        prune_number: see `PruningOptions`.

    Returns:
        The groups, none where nothing is to be removed.
    """
    groups = [
        Group([(edge, op) for op in ops], min(prune_number, len(ops) - 1))
        for edge, ops in enumerate(sets.edges)
        if len(ops) > 1
    ]
    if groups or space.inputs is None:
        return groups
    for node in space.nodes:
        entering = [(edge, op) for edge in node for op in sets.edges[edge]]
        if len(entering) > space.inputs:
            return [Group(entering, len(entering) - space.inputs)]
    return []


def num_evaluations(space: Supernet, options: PruningOptions) -> int:
    """Networks that a search evaluates; which ones are kept does not matter.

    Example:
        >>> from lswag_jax import spaces
        >>> space = spaces.supernet_of(spaces.get("darts"))
        >>> num_evaluations(space, PruningOptions(prune_number=3))
        341
    """
    archive: list[Any] = []

    def placeholders(genotypes: Sequence[Any]) -> Iterator[Any]:
        return ({"id": space.format(g)} for g in genotypes)

    search(
        space,
        placeholders,
        lambda rows: np.zeros(len(rows) - 1),
        options,
        archive,
    )
    return len(archive)


def removal_scores(table: ScoreTable, fitness: Fitness, decimals: int | None) -> np.ndarray:
    """Scores the removals of a round [P - 1]; what loses least has the largest.

    Args:
        table: of the round, the whole network first; it is the pool of every rule.
        fitness: the proxies, how they are merged and which of them count reversed.
        decimals: see `PruningOptions`.
    """
    values = {}
    for name in fitness.proxies:
        failed = np.isneginf(table.values(name))
        values[name] = -relative_losses(table.per_repeat[name], failed, decimals)
    return fitness.merge(values)


def relative_losses(
    scores_PxR: np.ndarray, failed_P: np.ndarray, decimals: int | None = None
) -> np.ndarray:
    """loss [P - 1] = mean over repeats of (z_whole - z_without) / |z_whole|.

    Args:
        scores_PxR: of the whole network and then of those without an operation.
        failed_P: which of them failed. Without a score nothing may be removed: the loss is inf.
            If it is the whole that failed or has a score of 0, the losses are -z_without.
        decimals: that each is rounded to, None for all.

    Example:
        >>> relative_losses(np.array([[-4.0], [-3.0], [-6.0]]), np.zeros(3, bool))
        array([-0.25,  0.5 ])
    """
    whole_R, without = scores_PxR[0], scores_PxR[1:]
    is_relative = not failed_P[0] and (whole_R != 0).all()
    with np.errstate(invalid="ignore"):
        losses = (whole_R - without) / np.abs(whole_R) if is_relative else -without
    if decimals is not None:
        losses = np.round(losses, decimals)
    return np.where(failed_P[1:], np.inf, losses.mean(1))
