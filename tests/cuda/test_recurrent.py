"""The recurrent family beyond its cases: other batches, rows of several groups, repeated launches, large layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cuda import kernel as cuda_kernel
from kernels.recurrent.cell import GRU, LSTM, Cell
from kernels.recurrent.kernel import recurrent_source, recurrent_texts, reference
from tests.cuda import recurrent_cases
from tests.cuda.case import Arrays, check, draw
from tests.cuda.jobs import CompileJob, SimulateJob
from tests.cuda.test_sass import CAPABILITIES, assert_bounds
from tests.cuda.toolchain_process import ToolchainProcess, simulated

pytestmark = pytest.mark.cuda_toolchain


@pytest.mark.parametrize(("cell", "batch"), [(LSTM, 4), (GRU, 2)], ids=["lstm-4", "gru-2"])
def test_lanes_split_any_batch_up_to_four(cell: Cell, batch: int, simulating: ToolchainProcess) -> None:
    case = recurrent_cases.case(cell, batch, 2)
    problem = case.problem(4)
    check(case, problem, problem.sources["wide"], simulated(simulating, *problem.grids[0]), seed=batch)


@settings(max_examples=4, deadline=None)
@given(
    cell=st.sampled_from([LSTM, GRU]),
    hidden=st.integers(1, 6),
    batch=st.integers(1, 4),
    steps=st.integers(1, 3),
    units=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_size_on_any_grid_matches_the_reference(
    cell: Cell, hidden: int, batch: int, steps: int, units: int, seed: int, simulating: ToolchainProcess
) -> None:
    case = recurrent_cases.case(cell, batch, steps)
    for text in recurrent_texts(cell, hidden, batch, units).values():
        run = simulated(simulating, text.blocks, text.threads)
        check(case, case.problem(hidden), recurrent_source(text), run, seed)


def drawn(cell: Cell, hidden: int, batch: int, steps: int, seed: int) -> tuple[Arrays, list[np.ndarray], list[str]]:
    """Return fresh arrays of a layer, what they hold after it, and their names."""
    problem = recurrent_cases.problem(cell, hidden, batch, steps)
    arrays = draw(recurrent_cases.case(cell, batch, steps), problem, np.random.default_rng(seed))
    return arrays, reference(cell, hidden, batch, steps, arrays), [buffer.name for buffer in problem.buffers]


@pytest.mark.parametrize("form", ["wide", "scalar"])
def test_rows_of_several_groups_are_multiplied_whole(form: str, simulating: ToolchainProcess) -> None:
    # 132 columns: one whole group of 128 and a masked one. Two blocks compute four of the units, in one step.
    hidden, batch = 132, 3
    arrays, expected, names = drawn(LSTM, hidden, batch, 1, seed=3)
    source = recurrent_source(recurrent_texts(LSTM, hidden, batch, units=2)[form])
    after = simulating.run(SimulateJob(source, arrays, 2, 64, "descending", scalars=(1,)))
    for name in ("outputs", "h_last", "c_last"):
        got, wanted = (values[names.index(name)].reshape(batch, hidden)[:, :4] for values in (after, expected))
        np.testing.assert_allclose(got, wanted, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_launches_follow_each_other_without_a_reset(steps: int, simulating: ToolchainProcess) -> None:
    hidden, batch = 4, 1
    arrays, expected, names = drawn(GRU, hidden, batch, steps, seed=steps)
    text = recurrent_texts(GRU, hidden, batch, units=2)["wide"]
    for launch in (1, 2, 3):
        arrays[names.index("outputs")][:] = np.nan
        job = SimulateJob(recurrent_source(text), arrays, text.blocks, text.threads, scalars=(steps,))
        arrays = tuple(simulating.run(job))
        np.testing.assert_allclose(arrays[names.index("outputs")], expected[names.index("outputs")], 5e-6, 5e-6)
        flips = launch * (steps - 1)
        assert arrays[names.index("counter")][0] == 0x80000000 * (flips % 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinities_reach_every_unit(value: float, simulating: ToolchainProcess) -> None:
    hidden, batch, steps = 5, 2, 2
    arrays, _, names = drawn(LSTM, hidden, batch, steps, seed=7)
    arrays[names.index("h_first")][hidden - 1] = value  # of the first item
    expected = reference(LSTM, hidden, batch, steps, arrays)[names.index("outputs")].astype(np.float32)
    twin = tuple(array.copy() for array in arrays)
    text = recurrent_texts(LSTM, hidden, batch, units=2)["scalar"]
    cuda_kernel.run_twin(recurrent_source(text), (*twin, steps))
    job = SimulateJob(recurrent_source(text), arrays, text.blocks, text.threads, scalars=(steps,))
    for after in (twin, simulating.run(job)):
        got = after[names.index("outputs")]
        np.testing.assert_allclose(got, expected, 5e-6, 5e-6, equal_nan=True)
        nan = np.isnan(got.reshape(steps, batch, hidden))
        assert nan[1, 0].all() == bool(np.isnan(value)) and not nan[:, 1].any()


@pytest.mark.parametrize("capability", CAPABILITIES, ids=("sm_80", "sm_90"))
@pytest.mark.parametrize(
    ("cell", "hidden", "registers", "loads"),
    [(LSTM, 512, 120, 17), (LSTM, 1024, 176, 33)],
    ids=["lstm-512", "lstm-1024"],
)
def test_the_weights_of_a_large_layer_stay_in_registers(
    cell: Cell, hidden: int, registers: int, loads: int, capability: tuple[int, int], compiling: ToolchainProcess
) -> None:
    text = recurrent_texts(cell, hidden, 1)["wide"]
    report = compiling.run(CompileJob(recurrent_source(text), capability))
    assert_bounds(report, recurrent_cases.bounds(registers, loads))
    # A block must fit a multiprocessor's 65536 registers, which it gets by eights for each thread.
    assert -(-report.registers // 8) * 8 * text.threads <= 65536
    # A step has no branch into a slow division: its gates are computed side by side.
    assert not any(name.startswith("CALL") for name in report.instructions)
