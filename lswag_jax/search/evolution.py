"""Evolutionary search.

Source: microsoft/Cream, AutoFormer/evolution.py (Chen et al., ICCV 2021), with a zero-cost fitness
that may be ranked anew each epoch, and without its malformed children.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from lswag_jax.options import Number, NumberOrZero, Share
from lswag_jax.runs.archive import Archive, Evaluate, check_complete, extend
from lswag_jax.scoring.costs import Costs
from lswag_jax.scoring.rows import Row
from lswag_jax.search.random_search import SearchOptions, is_legal, require_legal, sample_legal
from lswag_jax.spaces import Space
from lswag_jax.spaces.genotype import choose

_PAIR_DRAWS = 50  # pairs of parents drawn until two can be crossed


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionOptions(SearchOptions):
    """Options of evolution, besides those of `SearchOptions`; defaults of the published code.

    Args:
        epochs: generations of children.
        population: genotypes of the first generation and, filled up with random ones, of each.
        select: number of parents, the best of the whole archive.
        crossover: children of two parents in a generation.
        mutation: mutants in a generation.
        m_prob: probability that a gene of one block is drawn anew (`Space.mutate`).
        s_prob: probability that a gene of the whole network is drawn anew.
        tries: proposals for each wanted child; a generation may have fewer children.
        merge_last: the last generation counts. The published code evaluates it and then leaves it
            out; without this it is not evaluated at all.

    Raises:
        ValueError: an option outside its range.

    Example:
        >>> EvolutionOptions(params_window=(18e6, 24e6)).total
        1050
    """

    epochs: Number = 20
    population: Number = 50
    select: Number = 10
    crossover: NumberOrZero = 25
    mutation: NumberOrZero = 25
    m_prob: Share = 0.2
    s_prob: Share = 0.4
    tries: Number = 10
    merge_last: bool = True

    @property
    def generations(self) -> int:
        """Generations that are evaluated, the first population among them."""
        return self.epochs + self.merge_last

    @property
    def total(self) -> int:
        """Genotypes to evaluate; fewer only if the space has no more legal ones."""
        children = max(self.population, self.crossover + self.mutation)
        return self.population + (self.generations - 1) * children


def search(
    space: Space,
    evaluate: Evaluate,
    fitness: Callable[[Sequence[Row]], np.ndarray],
    options: EvolutionOptions,
    archive: list[Row] | Archive,
    costs: Costs | None = None,
) -> None:
    """Evaluates generation after generation; resumes where the archive ends.

    Args:
        space: the search space.
        evaluate: yields a row for each genotype, in order.
        fitness: from all rows so far the fitness of each [P], larger is better.
        options: see `EvolutionOptions`.
        archive: receives the rows.
        costs: measures for the windows of latency and memory.

    Raises:
        ValueError: the windows cannot be met, or the archive is of another search.

    Example:
        >>> from lswag_jax import spaces
        >>> space, archive = spaces.get("autoformer_tiny"), []
        >>> def evaluate(genotypes):
        ...     for g in genotypes:
        ...         yield {"id": space.format(g), "genotype": g.to_json(), "depth": g.depth}
        >>> search(space, evaluate, lambda rows: np.array([row["depth"] for row in rows]),
        ...        EvolutionOptions(epochs=3, population=5), archive)
        >>> len(archive), max(row["depth"] for row in archive)
        (155, 14)
    """
    size = 0
    for generation in range(options.generations):
        rows = archive[:size]  # a resumed search must not see what came later
        values = fitness(rows) if rows else None
        genotypes = propose(space, options, generation, rows, values, costs)
        size = extend(archive, size, space, genotypes, _of_generation(generation, evaluate))
    check_complete(archive, size)


def _of_generation(generation: int, evaluate: Evaluate) -> Evaluate:
    """`evaluate`, its rows telling the generation."""

    def evaluated(genotypes: Sequence[Any]) -> Iterator[Row]:
        for row in evaluate(genotypes):
            yield {**row, "generation": generation}

    return evaluated


def propose(
    space: Space,
    options: EvolutionOptions,
    generation: int,
    rows: Sequence[Row],
    fitness: np.ndarray | None,
    costs: Costs | None = None,
) -> list[Any]:
    """Genotypes of a generation: random ones at first, then mutants, crossovers and random ones.

    Args:
        space: the search space.
        options: see `EvolutionOptions`.
        generation: 0 is the first population.
        rows: of all generations before.
        fitness: of the rows [P]; of equals the earlier row is the better.
        costs: measures for the windows of latency and memory.

    Raises:
        ValueError: the first population cannot be found within the windows.
    """
    rng = np.random.default_rng([options.seed, generation])
    if generation == 0:
        return require_legal(space, rng, options.population, options, costs)
    best = np.argsort(-np.asarray(fitness), kind="stable")[: options.select]
    parents = [space.from_json(rows[i]["genotype"]) for i in best]
    seen = {row["id"] for row in rows}

    def children(proposals: Iterator[Any], num: int) -> list[Any]:
        tried = islice(proposals, num * options.tries)
        legal = (g for g in tried if g is not None and is_legal(space, g, options, seen, costs))
        return list(islice(legal, num))

    mutants = children(_mutants(space, rng, parents, options), options.mutation)
    crossed = children(_crossovers(space, rng, parents), options.crossover)
    num_random = options.population - len(mutants) - len(crossed)
    return mutants + crossed + sample_legal(space, rng, num_random, options, seen, costs)


def _mutants(
    space: Space, rng: np.random.Generator, parents: Sequence[Any], options: EvolutionOptions
) -> Iterator[Any]:
    """Endless mutants of parents drawn uniformly."""
    while True:
        parent = choose(rng, parents)
        yield space.mutate(rng, parent, m_prob=options.m_prob, s_prob=options.s_prob)


def _crossovers(
    space: Space, rng: np.random.Generator, parents: Sequence[Any]
) -> Iterator[Any | None]:
    """Endless children of pairs drawn uniformly; None where no drawn pair can be crossed."""
    while True:
        pairs = ((choose(rng, parents), choose(rng, parents)) for _ in range(_PAIR_DRAWS))
        tried = (space.crossover(rng, a, b) for a, b in pairs)
        yield next((child for child in tried if child is not None), None)
