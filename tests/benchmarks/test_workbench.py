"""The benchmark of the page measures ours and the peer on the very pages that people see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from benchmarks.contract import row_of_samples
from benchmarks.in_browser import opened_browser
from benchmarks.workbench import BARS, BENCHMARK, CASES, GRAPH_OURS, PROMISES, Case, Servers, measure_case, served
from tests.e2e.conftest import require_browser

OPS = 400


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_browser()
    with opened_browser() as found:
        yield found


@pytest.fixture(scope="module")
def servers(browser: Browser) -> Iterator[Servers]:
    with served(run_ops=OPS, grid_ops=OPS) as found:
        yield found


def test_every_promise_has_a_case_and_a_bar():
    assert BENCHMARK.promises == PROMISES == tuple(promise for case in CASES for promise in case.promises)
    assert set(BARS) == set(PROMISES)


def test_addresses_hold_the_runs_that_are_served():
    servers = Servers("http://ours", "http://plain", "run-1", "run-2")
    assert servers.url(GRAPH_OURS, plain=False) == "http://ours/graph?run=run-1"
    assert [servers.url(case.theirs, plain=True) for case in CASES] == [
        "http://plain/overview",
        "http://plain/overview",
        "http://plain/grid",
        "http://plain/graph",
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.view.case}-{case.view.metric}")
def test_a_page_and_its_act_are_timed_on_both_sides(case: Case, servers: Servers, browser: Browser):
    taken = measure_case(case, servers, browser, 1, True, lambda stage, fraction: None)
    for promise in case.promises:
        row = row_of_samples(promise, 1, taken.ours[promise], taken.theirs[promise])
        assert row.ours > 0 and row.theirs > 0
        assert row.ratio.median == pytest.approx(row.theirs / row.ours)
        assert taken.first[promise] > 0
