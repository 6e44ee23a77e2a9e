"""Spans of days."""

# mypy: ignore-errors

from calendrical.spans import gaps, length, merged, overlap


def test_length():
    assert length((3, 10)) == 7
    assert length((5, 5)) == 0


def test_overlap():
    assert overlap((1, 5), (4, 9))
    assert overlap((4, 9), (1, 5))
    assert not overlap((1, 5), (5, 9))
    assert not overlap((5, 9), (1, 5))


def test_merged():
    assert merged([(6, 9), (1, 3), (3, 4), (8, 12)]) == [(1, 4), (6, 12)]
    assert merged([]) == []


def test_gaps():
    assert gaps([(1, 4), (6, 12), (20, 21)]) == [(4, 6), (12, 20)]
