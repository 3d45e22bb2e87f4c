"""Programs of the torch.compile backend that were chosen before: found by their graph, tried out as new ones are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from optimizers.fusion.api import build, graph_hash
from optimizers.fusion.backend_choice import Chosen, Tensors, measured
from optimizers.fusion.capture import Captured
from optimizers.fusion.program import Program
from optimizers.fusion.stored import StoredProgram, find, key_of, save


def remembered(captured: Captured, weights: Tensors, inputs: Tensors, exact: Sequence[str]) -> Chosen:
    """Return the program that was chosen for this graph before, else the one that is chosen now, and keep that.

    A graph of AOTAutograd's determines what is computed, and its hash says all of it: ops, arguments, layouts.
    Whether results and times hold here is found out by the caller's trial either way.
    """
    strides = [tuple(tensor.stride()) for tensor in (*weights, *inputs)]
    key = key_of("graph", graph_hash(captured), repr(sorted(exact)), repr(strides))

    def rebuild(stored: StoredProgram) -> Program:
        with torch.no_grad():
            return build(captured, stored.excluded, stored.rolled)[0]

    found = find(key, rebuild)
    if found is not None:
        program, kernels = found
        return Chosen(program, kernels, program.excluded, program.rolled)
    chosen = measured(captured, weights, inputs, exact)
    save(key, chosen.program, chosen.kernels, chosen.excluded, chosen.rolled)
    return chosen
