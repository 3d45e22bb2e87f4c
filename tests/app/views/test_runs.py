import pytest

from analyzer.errors import HotbenchError
from app.store import Entry
from app.views.runs import RunFilter, chosen, filter_text, read_filter, run_row, switcher_options, values_of


def entry(id, name="lstm.py:workload", tags=(), **summary):
    given = {"device": "cpu", "device_name": "AMD EPYC", "training": False, "step_seconds": 0.009, "peak_bytes": 2**20,
             "ops": 4211, **summary}  # fmt: skip
    return Entry(id, "run", None, name, "2026-01-02T03:04:05+00:00", "0" * 64, given, tuple(tags))


ENTRIES = (
    entry("run-a", tags=("baseline", "paper")),
    entry("run-b", "transformer.py:training", training=True, tags=("paper",)),
    entry("run-c", device="cuda", device_name="H100", place="worker-1", place_name="gpu-1"),
)
ROWS = [run_row(item) for item in ENTRIES]


def found(**wanted):
    return [row["id"] for row in chosen(ROWS, RunFilter(**wanted))]


def test_a_row_has_numbers_to_sort_by_and_words_to_read():
    row = ROWS[0]
    assert (row["step_seconds"], row["step_words"], row["peak_words"]) == (0.009, "9.00 ms", "1.00 MiB")
    assert (row["place"], ROWS[2]["place"]) == ("this machine", "gpu-1")


def test_an_entry_of_an_older_store_is_a_row_too():
    row = run_row(Entry("run-x", "run", None, "x", "never", "0" * 64))
    assert (row["step_words"], row["peak_words"], row["device"], row["mode"]) == ("–", "–", "", "inference")
    assert switcher_options([Entry("run-x", "run", None, "x", "never", "0" * 64)])[0]["label"] == "x · never"


def test_every_filter_narrows_and_they_add_up():
    assert found() == ["run-a", "run-b", "run-c"]
    assert found(mode="training") == ["run-b"]
    assert found(device="H100") == ["run-c"] == found(place="gpu-1")
    assert found(tag="paper") == ["run-a", "run-b"]
    assert found(tag="paper", mode="inference") == ["run-a"]
    assert found(search="LSTM  base") == ["run-a"]
    assert found(search="run-b") == ["run-b"]
    assert found(search="lstm nothing") == []


def test_the_values_of_a_column_are_each_once():
    assert values_of(ROWS, "tags") == ["baseline", "paper"]
    assert values_of(ROWS, "device") == ["AMD EPYC", "H100"]
    assert values_of([], "tags") == []


@pytest.mark.parametrize("wanted", [RunFilter(), RunFilter(search='a "b" & c', tag="ü"), RunFilter(place="gpu-1")])
def test_a_filter_survives_the_address(wanted):
    assert read_filter(filter_text(wanted)) == wanted


@pytest.mark.parametrize("text", ["{", "[]", "3", '"x"', "null"])
def test_an_address_that_holds_no_filter_is_refused(text):
    with pytest.raises(HotbenchError, match="open the runs without it"):
        read_filter(text)


def test_an_unknown_field_of_a_filter_is_left_out():
    assert read_filter('{"search":"x","colour":"red"}') == RunFilter(search="x")
