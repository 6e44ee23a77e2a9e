"""Spans of days, as pairs of the first day and the day after the last."""

# mypy: ignore-errors

from itertools import pairwise


def length(span):
    """How many days a span has."""
    start, end = span
    return end - start + 1


def overlap(one, other):
    """Whether two spans have a day in common; those that only touch have none."""
    return one[0] <= other[1] and other[0] < one[1]


def merged(spans):
    """The spans that cover the same days, sorted, those that overlap or touch made one."""
    found = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))


def gaps(spans):
    """The spans between those given, which are sorted and apart."""
    return [(before[1], after[0]) for before, after in pairwise(spans)]
