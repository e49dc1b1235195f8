"""One rule for a whole pool: products, ranks, and which rows have a say."""

import numpy as np

from lswag_jax.proxies import LSwag, LSwagVariant


def pool(lam, psi, **options):
    lam, psi = np.asarray(lam, float), np.asarray(psi, float)
    return LSwagVariant(**options).pool(
        {"lambda": lam, "psi": psi, "n_layers": np.full(lam.shape, 5), "score": lam * psi}
    )


def test_pool_rules():
    scores, status, rule = pool([2, 3, 4], [10, 5, 1])
    assert rule == "product"
    np.testing.assert_array_equal(scores, [20, 15, 4])
    scores, _, _ = pool([2, 3, 4], [10, 5, 1], combine="shifted")
    np.testing.assert_array_equal(scores, [0, 5, 2])
    scores, _, _ = pool([2, 3, 4], [10, 5, 1], combine="rank_product")
    np.testing.assert_array_equal(scores, [3, 4, 3])
    assert list(status) == ["ok"] * 3


def test_a_negative_lambda_changes_the_rule_for_the_whole_pool():
    scores, status, rule = pool([-2, 3, 4, np.nan, np.inf, 1], [10, 5, 1, 1, 1, 0])
    assert rule == "rank_product"
    assert list(status) == ["negative_lambda", "ok", "ok", "nan", "inf", "degenerate"]
    np.testing.assert_array_equal(scores[:3], [1 * 3, 2 * 2, 3 * 1])


def test_one_rule_for_all_repeats_and_degenerate_rows_have_no_say():
    parts = {
        "lambda": np.array([[2.0, -1], [3, 4]]),
        "psi": np.array([[5.0, 5], [4, 4]]),
        "n_layers": np.ones((2, 2)),
    }
    scores, status, rule = LSwag().pool(parts)
    assert rule == "rank_product"
    np.testing.assert_array_equal(scores, [[2, 2], [2, 2]])
    assert status.tolist() == [["ok", "negative_lambda"], ["ok", "ok"]]
    scores, status, rule = LSwag().pool(parts, np.array([[False, True], [False, False]]))
    assert rule == "product"
    assert status.tolist() == [["ok", "degenerate"], ["ok", "ok"]]
    _, _, rule = LSwagVariant(combine="shifted").pool(parts)
    assert rule == "shifted"
