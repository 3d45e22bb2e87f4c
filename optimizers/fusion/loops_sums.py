"""Products whose results are only added together become one product of several terms: x @ W + b + h @ U."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from optimizers.fusion.graph import Call, Definition, Reference, references_in


def merge_products(
    definitions: Sequence[Definition], calls: Sequence[Call], returned: Collection[int], fixed: Collection[int]
) -> tuple[list[Definition], list[Call]]:
    """Return the body of a loop with such products merged into the last one of each sum.

    returned: definitions that leave the trip; fixed: inputs that are the same in every trip, whose products merge.
    """
    merged, new_calls = list(definitions), list(calls)
    uses = _uses(definitions, calls, returned)
    inner: set[int] = set()
    for root in reversed(definitions):
        if root.op != "add" or root.index in inner:
            continue
        chain, leaves = _chain(root, merged, uses)
        inner |= chain
        products = [leaf for leaf in leaves if _mergeable(merged[leaf], new_calls, uses, fixed)]
        if len(products) < 2 or len({merged[leaf].shape for leaf in products}) > 1:
            continue
        kept = max(products)
        terms = [new_calls[merged[leaf].number].args for leaf in sorted(products)]
        call = new_calls[merged[kept].number]
        new_calls[merged[kept].number] = replace(call, args=tuple(item for pair in terms for item in pair))
        for leaf in set(products) - {kept}:
            _drop(leaf, chain | {root.index}, merged)
    return merged, new_calls


def _uses(definitions: Sequence[Definition], calls: Sequence[Call], returned: Collection[int]) -> Counter[int]:
    uses = Counter(item.source for definition in definitions for item in references_in(definition.operands))
    uses.update(item.source for call in calls for item in references_in(call.args))
    uses.update(returned)
    return uses


def _chain(root: Definition, definitions: Sequence[Definition], uses: Counter[int]) -> tuple[set[int], list[int]]:
    """Return the additions below `root` that nothing else reads, and the definitions that they all add up."""
    inner: set[int] = set()
    leaves: list[int] = []
    waiting = [root]
    while waiting:
        operands = waiting.pop().operands
        if not all(isinstance(operand, Reference) for operand in operands):
            continue  # a number stays where it is
        for operand in references_in(operands):
            source = definitions[operand.source]
            whole = (operand.offset, operand.shape, operand.strides) == (0, source.shape, source.strides)
            if whole and source.op == "add" and uses[source.index] == 1 and source.place is None:
                inner.add(source.index)
                waiting.append(source)
            elif whole:
                leaves.append(source.index)
    return inner, leaves


def _mergeable(leaf: Definition, calls: Sequence[Call], uses: Counter[int], fixed: Collection[int]) -> bool:
    if leaf.kind != "call" or uses[leaf.index] != 1 or leaf.dtype != "float32" or leaf.shape[0] < 2:
        return False
    return calls[leaf.number].args[1].source in fixed


def _drop(leaf: int, additions: Collection[int], definitions: list[Definition]) -> None:
    """Take a leaf out of the one addition that reads it."""
    for index in additions:
        addition = definitions[index]
        others = [item for item in addition.operands if not (isinstance(item, Reference) and item.source == leaf)]
        if len(others) == 1 and isinstance(others[0], Reference):
            definitions[index] = replace(addition, op="identity", operands=tuple(others))
            return
    raise AssertionError("a product that is added to nothing")
