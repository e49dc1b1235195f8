"""Shards: their notation, the union of random searches, and what is refused."""

import dataclasses
import doctest
import json

import pytest

from lswag_jax.cli import search as binary
from lswag_jax.cli.default_config import default_config, shrink
from lswag_jax.runs import Archive, Shard, shards
from lswag_jax.scoring import population as scoring
from lswag_jax.search import RandomOptions, run
from tests.helpers.searches import FAKE, SPACE, fake, images


def test_docstring_examples():
    result = doctest.testmod(shards)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("text", ["", "1", "a/b", "1/2/3", "-1/2", " 0/2", "0/2\n"])
def test_other_notation_is_refused(text):
    with pytest.raises(ValueError, match=r"a shard is written k/n, such as 0/8, got '.*'\.$"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["2/2", "0/0", "5/3"])
def test_worker_that_does_not_exist_is_refused(text):
    with pytest.raises(ValueError, match=f"0 <= k < n, got {text}"):
        Shard.parse(text)


@pytest.mark.parametrize("n", [1, 2, 3, 13])
def test_shards_part_the_items(n):
    parts = [Shard(k, n).share(range(12)) for k in range(n)]
    assert sorted(i for part in parts for i in part) == list(range(12))
    assert [len(part) for part in parts] == [
        RandomOptions(num=12, shard=Shard(k, n)).total for k in range(n)
    ]


@pytest.fixture
def evaluated(monkeypatch):
    """Ids of the genotypes that were evaluated; none is really scored."""
    ids = []

    def stream(space, genotypes, images, labels, proxies, *, timing, **_):
        ids.extend(map(space.format, genotypes))
        yield from fake(space)(genotypes)
        timing |= {"compile": 0.0, "score": float(len(genotypes))}

    monkeypatch.setattr(scoring, "stream", stream)
    return ids


def search(workdir, shard=None, num=11, seed=0):
    options = RandomOptions(num=num, shard=shard, seed=seed)
    return run(SPACE, *images(), FAKE["proxies"], options, workdir, fitness="swap")


def test_union_of_shards_is_the_whole_search(tmp_path, evaluated):
    whole = search(tmp_path / "whole")
    evaluated.clear()
    parts = [search(tmp_path / "shards", Shard(k, 3)) for k in range(3)]
    assert sorted(evaluated) == sorted(whole.table.ids)
    assert [len(part.table) for part in parts] == [4, 4, 3]
    assert sorted(path.name for path in (tmp_path / "shards" / "shard-0-of-3").iterdir()) == [
        *("archive.jsonl", "config.json")
    ]
    evaluated.clear()
    union = search(tmp_path / "shards")
    assert evaluated == []
    assert union.table.rows == whole.table.rows
    for name in ("archive.jsonl", "config.json", "best.json", "ranking.csv"):
        files = [(tmp_path / folder / name).read_bytes() for folder in ("shards", "whole")]
        assert files[0] == files[1]


def test_rows_that_no_shard_has_are_evaluated(tmp_path, evaluated):
    whole = search(tmp_path / "whole")
    search(tmp_path / "shards", Shard(1, 3))
    search(tmp_path / "shards", Shard(1, 2))  # overlaps with the other
    evaluated.clear()
    union = search(tmp_path / "shards")
    assert evaluated == [i for n, i in enumerate(whole.table.ids) if n % 3 != 1 and n % 2 != 1]
    assert union.table.rows == whole.table.rows
    assert union.table.timing["score"] == len(evaluated)


def test_more_workers_than_genotypes(tmp_path, evaluated):
    assert len(search(tmp_path, Shard(12, 13)).table) == 0
    assert len(search(tmp_path).table) == len(evaluated) == 11


def test_more_networks_in_the_shards_that_are_there(tmp_path, evaluated):
    parts = [search(tmp_path, Shard(k, 2)).table.ids for k in range(2)]
    more = [search(tmp_path, Shard(k, 2), num=15).table.ids for k in range(2)]
    assert [ids[: len(part)] for ids, part in zip(more, parts, strict=True)] == parts
    assert len(search(tmp_path, num=15).table) == len(evaluated) == 15


def test_a_shard_of_another_run_or_at_work_is_refused(tmp_path, evaluated):
    search(tmp_path, Shard(0, 2))
    with pytest.raises(ValueError, match=r"shard-0-of-2 holds .* search\.seed \(0 there, 1 here\)"):
        search(tmp_path, seed=1)
    folder = tmp_path / "shard-0-of-2"
    config = json.loads((folder / "config.json").read_text())
    with (
        Archive(folder, config),
        pytest.raises(ValueError, match=r"another process is writing .*shard-0-of-2"),
    ):
        search(tmp_path)
    assert len(search(tmp_path).table) == 11


def test_evolution_has_no_shards(tmp_path):
    config = shrink(default_config("autoformer_tiny"))
    with pytest.raises(ValueError, match=r"evolution .* use --distributed\.$"):
        binary.main(config, str(tmp_path), Shard(0, 2))
    with pytest.raises(TypeError):
        dataclasses.replace(binary.options_of(config, None), shard=Shard(0, 2))
