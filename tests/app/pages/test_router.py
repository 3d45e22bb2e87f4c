import pytest

from analyzer.errors import HotbenchError
from app.pages import HIDDEN, PAGES, router
from app.web import faults
from tests.app.components.tree import check_headings, check_labels, texts


def test_an_address_is_read_and_what_is_no_op_is_none():
    query = router.read_query("?run=run-1&op=17&filter=a%20b&run=run-2&empty=")
    assert query == {"run": "run-2", "op": "17", "filter": "a b"}
    assert router.selection(query) == {"run": "run-2", "op": 17, "module": None, "finding": None, "filter": "a b"}
    assert router.selection({"op": "-1; drop"})["op"] is None


def test_a_run_is_found_by_the_beginning_of_its_id_and_the_latest_is_taken_without_one(desk):
    page = router.find_page("/")
    assert router.with_run(desk.store, page, {"run": desk.run.id[:9]})["run"] == desk.run.id
    assert router.with_run(desk.store, page, {})["run"] == desk.run.id
    assert router.with_run(desk.store, router.find_page("/runs/"), {}) == {}


def test_an_address_of_nothing_says_so_and_leads_back(desk):
    tree, _, title = router.render("/<script>", "")
    assert "There is no such page" in texts(tree) and "'/<script>'" in texts(tree) and title == "No such page"


def test_an_error_stands_in_the_page_in_words(desk):
    tree, chosen, title = router.render("/", "?run=run-zzz")
    assert "no run 'run-zzz'" in texts(tree) and title == "Overview"
    assert chosen["run"] == "run-zzz"
    check_headings(tree)


def test_a_mistake_of_our_own_is_kept_and_said_without_its_traceback(desk, monkeypatch):
    kept = []
    monkeypatch.setattr(faults, "report", kept.append)
    monkeypatch.setattr(router.find_page("/runs"), "layout", lambda query: 1 / 0)
    tree, _, _ = router.render("/runs", "")
    assert "made a mistake" in texts(tree) and "division" not in texts(tree)
    assert [type(error) for error in kept] == [ZeroDivisionError]


@pytest.mark.parametrize("page", [*PAGES, *HIDDEN], ids=lambda page: page.PATH)
def test_every_page_has_one_h1_and_named_fields_with_and_without_runs(page, desk):
    tree = page.layout({"run": desk.run.id})
    check_headings(tree)
    check_labels(tree)
    while desk.store.entries():
        assert any(desk.store.discard(entry) for entry in desk.store.entries())
    empty = page.layout({})
    check_headings(empty)
    check_labels(empty)


def test_paths_and_titles_are_given_once():
    for name in ("PATH", "TITLE"):
        values = [getattr(page, name) for page in (*PAGES, *HIDDEN)]
        assert len(values) == len(set(values))


def test_an_unreadable_filter_is_refused_in_words(desk):
    with pytest.raises(HotbenchError, match="cannot be read"):
        router.find_page("/runs").layout({"filter": "{"})


def test_the_frame_begins_to_load_the_run_of_the_page_that_asks_for_it(desk, monkeypatch):
    asked = []
    monkeypatch.setattr(router, "load_ahead", lambda store, id: asked.append(id))
    for address in (
        "http://127.0.0.1/?run=run-1&op=2",
        "http://127.0.0.1/operators",
        "http://127.0.0.1/runs?run=x",
        "",
    ):
        router._load_ahead(address)
    assert asked == ["run-1", ""]
