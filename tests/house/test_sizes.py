"""The size gate counts code, not comments, and says what is over its limit."""

from __future__ import annotations

from tools.sizes import Size, function_sizes, problems, quantile

SOURCE = '''
def outer(a):
    """Two lines

    of words."""
    # why
    b = (
        a
    )

    def inner():
        return b

    return inner


class A:
    def only_words(self):
        """Nothing else."""
'''


def test_only_code_counts() -> None:
    sizes = {size.where.split()[-1]: size.lines for size in function_sizes(SOURCE, "m.py")}
    assert sizes == {"outer": 6, "inner": 1, "only_words": 0}


def test_the_ninth_decile_is_what_nine_in_ten_do_not_exceed() -> None:
    sizes = [Size(n, "f") for n in range(1, 11)]
    assert [quantile(sizes, share) for share in (0.5, 0.9, 1.0)] == [5, 9, 10]
    assert quantile([], 0.5) == 0


def test_each_limit_is_held() -> None:
    assert problems([Size(8, "f")] * 9 + [Size(60, "g")], [Size(500, "m")]) == []
    (long,) = problems([Size(1, "f")] * 20 + [Size(61, "m.py:3 g")], [])
    assert "m.py:3 g: 61 lines" in long
    (median,) = problems([Size(9, "f")], [])
    assert "median" in median
    (decile,) = problems([Size(1, "f")] * 4 + [Size(31, "f")], [])
    assert "ninth decile" in decile
    (module,) = problems([], [Size(501, "m.py")])
    assert "m.py: 501 lines" in module
