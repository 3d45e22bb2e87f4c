"""The program that was chosen earlier for the same computation: checked and timed anew, not searched for anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from optimizers.fusion.against_eager import verify
from optimizers.fusion.capture import ModelCall
from optimizers.fusion.module import FusedModule
from optimizers.fusion.recording import Recording
from optimizers.fusion.runtime import Runner
from optimizers.fusion.stored import StoredProgram, find, forget, key_of


def inference_key(call: ModelCall, recording: Recording) -> str:
    """Return the key of a recorded call: two calls with one key compute the same, whatever weights and inputs hold."""
    around = call.signature()
    plain = [repr(leaf) for leaf in around.inputs if not isinstance(leaf, torch.Tensor)]
    structure = (repr(around.weights), str(around.input_spec), str(around.output_spec), *plain)
    return key_of("inference", recording.hash(), *structure)


def found_again(
    model: torch.nn.Module,
    call: ModelCall,
    recording: Recording,
    max_error: float | None,
    rebuild: Callable[[StoredProgram], Any],
) -> FusedModule | None:
    """Return the model with the program that was chosen for this recording; None where there is none.

    Its outputs are those of the model itself, which may do more than what was recorded; else it is removed, and None
    returned.
    """
    key = inference_key(call, recording)
    found = find(key, rebuild)
    if found is None:
        return None
    args, kwargs = call.arguments
    try:
        module = FusedModule(model, call.signature(), Runner(*found))
        agrees = not verify(model, module, args, kwargs, max_error).reason
    except Exception:
        # An entry that somebody changed by hand may raise anything; it is made anew.
        forget(key)
        return None
    if not agrees and not module.fallbacks:
        forget(key)
    return module if agrees and not module.fallbacks else None
