"""Which elements accesses touch: ranges, and whether two points of the domain can meet in one element."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.compiler.ir import Access

_SEARCH_LIMIT = 20_000

Term = tuple[int, int]
"""A stride and the highest value of its index (the lowest is 0)."""


def element_range(access: Access, domain: Sequence[int]) -> tuple[int, int]:
    """Return the lowest and the highest element that an access touches."""
    reach = [stride * (extent - 1) for stride, extent in zip(access.strides, domain, strict=True)]
    low = access.offset + sum(step for step in reach if step < 0)
    return low, access.offset + sum(step for step in reach if step > 0)


def is_injective(access: Access, domain: Sequence[int]) -> bool:
    """Return whether no two points that differ along axes of stride not 0 touch one element.

    Never wrong when it says yes; says no where the search for a meeting point gives up.
    """
    terms = _terms(access, domain)
    ordered = sorted(terms)
    reach = 0
    for stride, last in ordered:
        if stride <= reach:
            break
        reach += stride * last
    else:
        return True
    # Two points meet if a difference of their indices, not all 0, cancels. Take the first axis in which they differ
    # (by 1 to last, without loss); the axes after it differ by -last to last.
    for lead, (stride, last) in enumerate(ordered):
        others = [(s, 2 * e) for s, e in ordered[lead + 1 :]]
        shift = sum(s * e for s, e in ordered[lead + 1 :])
        if _meets(shift - stride, [(stride, last - 1), *others]):
            return False
    return True


def may_overlap(first: Access, second: Access, domain: Sequence[int]) -> bool:
    """Return whether some point's element of one access is some other point's of the other.

    Never wrong when it says no; says yes where the search gives up.
    """
    low_a, high_a = element_range(first, domain)
    low_b, high_b = element_range(second, domain)
    if high_a < low_b or high_b < low_a:
        return False
    # first - second = 0, each index running up from its end of the range: sum(first terms) + sum(second terms) = gap
    terms = _terms(first, domain) + _terms(second, domain)
    return _meets(high_b - low_a, terms)


def may_share(
    first: Access, first_domain: Sequence[int], second: Access, second_domain: Sequence[int], distance: int
) -> bool:
    """Return whether some element is touched by accesses of two domains, elements of the same size.

    distance: elements from the beginning of the first one's buffer to that of the second's.
    Never wrong when it says no; says yes where the search gives up.
    """
    low_a, high_a = element_range(first, first_domain)
    low_b, high_b = (distance + end for end in element_range(second, second_domain))
    if high_a < low_b or high_b < low_a:
        return False
    return _meets(high_b - low_a, _terms(first, first_domain) + _terms(second, second_domain))


def _terms(access: Access, domain: Sequence[int]) -> list[Term]:
    pairs = zip(access.strides, domain, strict=True)
    return [(abs(stride), extent - 1) for stride, extent in pairs if stride and extent > 1]


def _meets(target: int, terms: Sequence[Term]) -> bool:
    """Return whether sum(stride * index) = target has a solution with 0 <= index <= last; yes if it gives up."""
    ordered = sorted(terms, reverse=True)
    reach = [0]
    for stride, last in reversed(ordered):
        reach.append(reach[-1] + stride * last)
    reach.reverse()
    budget = _SEARCH_LIMIT

    pending = [(0, target)]
    while pending:
        depth, rest = pending.pop()
        if rest < 0 or rest > reach[depth]:
            continue
        if depth == len(ordered):
            return True
        stride, last = ordered[depth]
        lowest = max(0, -((reach[depth + 1] - rest) // stride))
        highest = min(last, rest // stride)
        budget -= max(0, highest - lowest + 1)
        if budget < 0:
            return True
        pending.extend((depth + 1, rest - stride * index) for index in range(lowest, highest + 1))
    return False
