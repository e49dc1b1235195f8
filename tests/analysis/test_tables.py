"""Tables of ground truth: their file, what is missing, and joins that say what they lost."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lswag_jax import spaces
from lswag_jax.analysis import tables
from lswag_jax.analysis.tables import GroundTruth, Records

HEADER = "genotype,dataset,metric,value,provenance\n"
NB201 = spaces.get("nasbench201")


def table(values, metric="val_accuracy", genotypes=None, dataset="cifar10", provenance="here"):
    """A table of one column, of genotypes 0, 1, ..."""
    texts = [str(i) for i in range(len(values))] if genotypes is None else list(genotypes)
    return GroundTruth.from_records([Records(dataset, metric, texts, values, provenance)])


FAILED = [1.0, -1e8, np.nan, -np.inf, np.inf]


@pytest.mark.parametrize(
    ("policy", "stand_in"), [("worst_rank", -np.inf), ("fill", -1e8), ("drop", np.nan)]
)
def test_what_stands_in_for_a_failure(policy, stand_in):
    expected = [1.0, stand_in, np.nan, stand_in, stand_in]
    found = table(FAILED, "nwot").values("cifar10", "nwot", policy)
    np.testing.assert_array_equal(found, expected)


def test_missing_is_not_failed():
    """-1e8 and infinities are failures, which are counted; NaN was never tried."""
    made = table(FAILED, "nwot")
    assert made.failures == {("cifar10", "nwot"): 3}
    np.testing.assert_array_equal(
        made.select("cifar10", "drop")["nwot"], made.columns["cifar10", "nwot"].values
    )


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@settings(deadline=None, max_examples=20)
@given(
    rows=st.dictionaries(
        st.tuples(st.text(min_size=1, max_size=3), st.sampled_from("ab"), st.sampled_from("xy")),
        st.floats(allow_nan=False),
        min_size=1,
    )
)
def test_a_file_gives_back_the_table(tmp_path_factory, suffix, rows):
    groups: dict = {}
    for (text, dataset, metric), value in rows.items():
        groups.setdefault((dataset, metric), {})[text.replace("\r", "")] = value
    made = GroundTruth.from_records(
        Records(*key, list(own), np.array(list(own.values())), f'from {key}, "it\'s"')
        for key, own in groups.items()
    )
    path = tmp_path_factory.mktemp("table") / f"t{suffix}"
    made.write(path)
    back = tables.read(path)
    assert list(back.genotypes) == list(made.genotypes)
    assert list(back.columns) == list(made.columns)
    for key, column in made.columns.items():
        np.testing.assert_array_equal(back.columns[key].values, column.values)
        np.testing.assert_array_equal(back.columns[key].failed, column.failed)
        assert back.columns[key].provenance == column.provenance


def test_read_spells_genotypes_as_the_space_does(tmp_path):
    path = tmp_path / "t.csv.gz"
    space = spaces.get("autoformer_tiny")
    heads, ratios = ",".join("3" * 12), ",".join(["4.0"] * 12)
    path.write_bytes(gzip.compress(f'{HEADER}"192/{heads}/{ratios}",a,b,1,c\n'.encode()))
    (text,) = tables.read(path, space).genotypes
    assert text == space.format(space.parse(text)) == f"192/{heads}/{ratios.replace('.0', '')}"


def mistakes():
    row = "{},cifar10,acc,1.5,paper\n".format
    return {
        "not there": (None, "there is no table"),
        "no column": ("genotype,dataset,metric,value\na,b,c,1\n", "has no column 'provenance'"),
        "no number": (HEADER + "a,b,c,x,d\n", "cannot be read as a table"),
        "no rows": (HEADER, "holds no rows"),
        "wrong genotype": (HEADER + row("|what~0|"), "genotype 0 of t.csv is not of nasbench201"),
        "two sources": (HEADER + "a,b,c,1,early\ne,b,c,1,final\n", "two sources are not mixed"),
    }


@pytest.mark.parametrize("name", mistakes())
def test_a_bad_file_is_one_sentence(name, tmp_path):
    text, message = mistakes()[name]
    if text is not None:
        (tmp_path / "t.csv").write_text(text)
    space = NB201 if name == "wrong genotype" else None
    with pytest.raises((ValueError, OSError), match=message) as error:
        tables.read(tmp_path / "t.csv", space)
    assert len(str(error.value).strip().splitlines()) == 1


def test_other_files_are_refused(tmp_path):
    (tmp_path / "t.pkl").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ValueError, match=r"a table is a file of kind \.csv, \.csv\.gz, \.parquet"):
        tables.read(tmp_path / "t.pkl")
    with pytest.raises(ValueError, match="a table is a file of kind"):
        table([1.0]).write(tmp_path / "t.json")
    (tmp_path / "t.parquet").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        tables.read(tmp_path / "t.parquet")


def test_repeated_genotypes_are_named_and_the_first_counts():
    made = table([1.0, 2.0, 3.0], genotypes=["a", "b", "a"])
    assert made.duplicates == ("a",)
    np.testing.assert_array_equal(made.values("cifar10", "val_accuracy"), [1.0, 2.0])


def test_unknown_names_are_refused():
    made = table([1.0], "nwot")
    with pytest.raises(ValueError, match=r"no data set 'svhn', it has cifar10\."):
        made.select("svhn")
    with pytest.raises(ValueError, match=r"no 'swap' on cifar10, it has nwot\."):
        made.values("cifar10", "swap")
    with pytest.raises(ValueError, match="nan_policy must be one of"):
        made.values("cifar10", "nwot", "mean")


def test_union_and_join():
    first, second = table([1.0, 2.0], "nwot"), table([5.0, -1e8], "swap", genotypes=["1", "2"])
    both = tables.union([first, second])
    assert both.genotypes == ["0", "1", "2"]
    np.testing.assert_array_equal(both.values("cifar10", "swap"), [np.nan, 5, -np.inf])
    joined, match = first.join(second)
    assert joined.genotypes == ["0", "1"]
    np.testing.assert_array_equal(joined.values("cifar10", "swap"), [np.nan, 5])
    assert joined.failures == {}
    assert str(match) == "1 of 2 genotypes matched; unmatched 1 (0)"
    with pytest.raises(ValueError, match="both tables have 'nwot' on cifar10: rename one"):
        first.join(first)
    twice, _ = first.join(first.rename({"nwot": "again"}))
    assert twice.metrics("cifar10") == ("nwot", "again")
    assert twice.only(["again"]).metrics("cifar10") == ("again",)


def test_with_params():
    """Exact counts of the space, beside what the table has."""
    genotypes = [NB201.format(g) for g in NB201.genotypes()[:3]]
    made = table([1.0, 2.0, 3.0], genotypes=genotypes).with_params(NB201)
    expected = [NB201.num_params(g) for g in NB201.genotypes()[:3]]
    assert made.values("cifar10", "params").tolist() == expected
    assert made.with_params(NB201) is made


def test_isomorphic_cells_are_found():
    """Vertices of NAS-Bench-101 may be in another order; the benchmark's hash agrees."""
    space = spaces.get("nasbench101")
    a, b = "conv3x3~0|conv1x1~0|output~1,2", "conv1x1~0|conv3x3~0|output~1,2"
    known = table([90.0], genotypes=[a])
    assert known.align([a, b]).unmatched == (b,)
    match = known.align([a, b, "output~0"], space)
    assert (match.index.tolist(), match.duplicates) == ([0, 0, -1], (b,))
    for g in space.sample(np.random.default_rng(0), 30):
        texts = list(space.spellings(g))
        assert texts[0] == space.format(g)
        assert {space.parse(text).spec_hash() for text in texts} == {g.spec_hash()}


def test_a_wrong_order_of_edges_is_noticed(rng):
    """The edges 0-3 and 1-2 in each other's place: every count is right, accuracies are not."""
    some = NB201.sample(rng, 200)
    swapped = [type(g)([g.ops[i] for i in (0, 1, 3, 2, 4, 5)]) for g in some]
    assert list(map(NB201.num_params, some)) == list(map(NB201.num_params, swapped))
    accuracy = lambda g: np.dot(g.codes, [1, 1, 4, 0, 1, 1]) + rng.normal()  # noqa: E731
    everything = NB201.genotypes()
    whole = table([accuracy(g) for g in everything], "test_accuracy", map(NB201.format, everything))
    values = [accuracy(g) for g in some]
    table(values, genotypes=map(NB201.format, some)).join(whole)
    wrong = table(values, genotypes=map(NB201.format, swapped))
    message = r"do not agree over \d+ common networks .* is the order of edges of one wrong"
    with pytest.raises(ValueError, match=message):
        wrong.join(whole)


def test_union_takes_a_column_of_two_tables_once_where_they_agree():
    """As `params` of two runs of one population; columns that differ are not mixed."""
    key = ("cifar10", "params")
    one, same, other = (
        tables.GroundTruth.from_records([tables.Records(*key, ["a", "b"], values, where)])
        for values, where in (([1.0, np.nan], "x"), ([1.0, np.nan], "y"), ([1.0, 2.0], "z"))
    )
    both = tables.union([one, same])
    assert both.columns[key].provenance == "x"
    assert both.duplicates == ()
    with pytest.raises(ValueError, match="two sources are not mixed"):
        tables.union([one, other])
