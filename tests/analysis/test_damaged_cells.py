"""Ground truth with cells or headers that are damaged: a sentence, and no metric left out."""

import pytest

from lswag_jax import spaces
from lswag_jax.analysis import converters, table_files, tables

NONE, CONV = (f"|{op}~0|+|{op}~0|{op}~1|+|{op}~0|{op}~1|{op}~2|" for op in ("none", "nor_conv_3x3"))


def test_a_text_among_numbers_is_no_reason_to_leave_a_metric_out(tmp_path):
    path = tmp_path / "nb201.csv"
    rows = [f"{NONE},1.0,x", f"{CONV},2.0,y", f"{NONE.replace('none~2', 'skip_connect~2')},n.a.,z"]
    path.write_text("\n".join(["arch_str,cifar10_nbsz_nwot,cifar10_nbsz_note", *rows]))
    with pytest.raises(ValueError, match=r"column .cifar10_nbsz_nwot. of"):
        converters.convert("nasbench201_csv", path, spaces.get("nasbench201"))


def test_a_column_that_is_there_twice(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("genotype,value,value\na,1,2\n")
    with pytest.raises(ValueError, match="the column 'value' is there more than once"):
        table_files.read_wide(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": ["x"]}, r"column 'value' of .*t\.parquet is no double: Failed to parse"),
        (
            {"genotype": [["a"]]},
            r"column 'genotype' of .*t\.parquet is no string: Unsupported cast",
        ),
    ],
    ids=["value", "genotype"],
)
def test_parquet_of_other_types(changes, message, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {name: ["a"] for name in table_files.COLUMNS} | {"value": [1.0]} | changes
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=message) as error:
        tables.read(tmp_path / "t.parquet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("score", ['"x"', '{"score": "x"}', "[]"])
def test_a_score_that_is_no_number_is_named_with_its_file(score, tmp_path):
    path = tmp_path / "zc.json"
    path.write_text('{"cifar10": {"(4, 0, 3, 1, 4, 3)": {"nwot": SCORE}}}'.replace("SCORE", score))
    with pytest.raises(ValueError, match=r"scores of .*zc\.json must be numbers, got"):
        converters.convert("nbsz_json", path, spaces.get("nasbench201"))


@pytest.mark.parametrize(
    ("genotypes", "values", "message"),
    [
        (["a", "b"], [1.0], r"a number for each of 2 genotypes, got values of shape \(1,\)"),
        (["a"], [[1.0]], r"a number for each of 1 genotypes, got values of shape \(1, 1\)"),
        ([1], [1.0], "genotypes of 'metric' on 'data' must be texts"),
        (["a"], ["x"], r"got values of shape \(1,\) and type"),
    ],
)
def test_records_that_do_not_fit(genotypes, values, message):
    records = tables.Records("data", "metric", genotypes, values, "here")
    with pytest.raises(ValueError, match=message):
        tables.GroundTruth.from_records([records])
