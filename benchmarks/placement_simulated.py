"""simulator-…: step seconds that the simulator predicted (ours) beside those of real ranks (theirs, "measured")."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.errors import HotbenchError
from analyzer.progress import Progress
from analyzer.record import to_plain
from benchmarks import placement_simulator as simulator
from benchmarks.contract import Promise, Ratio, Row
from benchmarks.placement_findings import STEP, Findings
from optimizers.placement.costs import Costs

PREFIX = "simulator-"
MEASURED = "measured"
CASES = {f"{PREFIX}{item.id}": item for item in simulator.CONFIGURATIONS}


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    return tuple(Promise(case, MEASURED, STEP) for case in CASES)


def measure(cases: Sequence[str], found: Findings, progress: Progress) -> None:
    """Add the rows of the configurations; a ratio of 1 is a prediction that came true, its interval the quartiles'."""
    items = [CASES[case] for case in cases]
    reason = simulator.no_hosts()
    for item in items if reason else ():
        if item.megabits is not None:
            found.add_missing(MEASURED, f"{PREFIX}{item.id}: {reason}")
    items = [item for item in items if item.megabits is None or not reason]
    try:
        progress("simulator: capturing and calibrating", 0.0)
        profiles = {model: simulator.capture_profile(model) for model in sorted({item.model for item in items})}
        calibration = simulator.calibrations(items)
        costs = Costs() if calibration is None else calibration.costs()
        for place, row in enumerate(simulator.rows(items, profiles, costs)):
            progress(f"simulator: {row.case}", (place + 1) / len(items))
            ratio = Ratio(row.measured / row.predicted, row.low / row.predicted, row.high / row.predicted)
            case = f"{PREFIX}{row.case}"
            found.rows.append(Row(case, 1, MEASURED, STEP, row.predicted, row.measured, ratio))
            found.details[case] = {**to_plain(row), "simulated": True}
    except HotbenchError as error:
        found.add_missing(MEASURED, f"simulator: {error}")
