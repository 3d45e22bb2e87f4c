"""The public names of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hotbench

LAZY = """
import sys
import hotbench
assert "torch._dynamo" not in sys.modules, "import hotbench loads torch's compiler"
backend = hotbench.backend
from torch._dynamo.backends.registry import lookup_backend
assert lookup_backend("hotbench") is backend
print("found")
"""


def test_every_public_name_is_there():
    assert all(getattr(hotbench, name) is not None for name in hotbench.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = hotbench.optimise


def test_the_backend_is_loaded_when_it_is_asked_for_and_then_found_by_its_name():
    command = [sys.executable, "-c", LAZY]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "found", done.stderr


@pytest.mark.parametrize("inputs", [3, None, "x"])
def test_inputs_that_are_no_arguments_are_refused_in_words(inputs):
    with pytest.raises(hotbench.HotbenchError, match=rf"inputs is {type(inputs).__name__}; give the tensor"):
        hotbench.optimize(torch.nn.Linear(2, 2), inputs)
