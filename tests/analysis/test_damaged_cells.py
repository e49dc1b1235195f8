"""Ground truth with cells or headers that are damaged: a sentence, and no metric left out."""

import pytest

from lswag_jax import spaces
from lswag_jax.analysis import converters, table_files

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
