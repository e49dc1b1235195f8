"""The goldens of the repository are those of the files that they were cut from."""

import numpy as np
import pytest

from tests.helpers import goldens

FILES = sorted(path.stem for path in goldens.SMALL.glob("*.npz"))


@pytest.mark.parametrize("file", FILES)
def test_small_files_are_cut_from_the_whole_ones(file):
    small, whole = goldens.read(file), goldens.read(file, whole=True)
    for key, array in small.items():
        np.testing.assert_array_equal(array, whole[key])
        assert array.dtype == whole[key].dtype or key.startswith("az_sign/")


def test_small_files_fit_into_the_repository():
    assert sum(path.stat().st_size for path in goldens.SMALL.iterdir()) < 2e6
    assert len(FILES) == 9
