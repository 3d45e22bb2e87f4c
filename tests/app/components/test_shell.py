import re
from pathlib import Path

from dash import Dash, html

from app.components import shell
from app.components.navigation import Place, groups
from app.pages import router
from app.web.access import Person
from tests.app.components.tree import by_id, check_labels, every, ids, texts

ASSETS = Path(__file__).parents[3] / "assets"
PLACES = (
    Place("/runs", "Runs", "runs", False),
    Place("/", "Overview", "overview", True),
    Place("/jobs", "Jobs", "jobs", False),
    Place("/experiments", "Experiments", "experiments", False),
)


LOCAL = Person("local", "admin")


def frame(person=LOCAL, login=False):
    return shell.layout(PLACES, person, login, html.Button("Jobs"))


def test_the_frame_holds_what_every_page_may_use():
    shared = {"address", "visit", "selection", "job-events", "jobs-changed", "colour-scheme", "notify", "page"}
    assert shared <= ids(frame())
    assert by_id(frame(), "selection").data == shell.NOTHING_SELECTED


def test_the_first_link_skips_to_the_content_and_every_field_has_a_name():
    tree = frame()
    first = next(item for item in every(tree) if isinstance(item, html.A))
    assert first.href == "#main" and by_id(tree, "main")
    check_labels(tree)


def test_only_who_logged_in_can_log_out():
    assert "Log out" not in texts(frame())
    tree = frame(Person("vera", "viewer"), login=True)
    assert "vera, viewer" in texts(tree) and "Log out" in texts(tree)
    (form,) = (item for item in every(tree) if isinstance(item, html.Form))
    assert (form.action, form.method) == ("/logout", "post")


def test_the_navigation_groups_pages_and_shows_no_empty_group():
    found = [(title, [place.title for place in members]) for title, members in groups(PLACES)]
    assert found == [
        ("", ["Runs"]), ("This run", ["Overview"]), ("Results", ["Experiments"]), ("Machines", ["Jobs"])
    ]  # fmt: skip
    assert groups(()) == ()


def test_every_callback_in_the_browser_is_defined_in_a_script():
    app = Dash("app", assets_folder=str(ASSETS))
    router.register(app)
    clients = [item["clientside_function"] for item in app._callback_list if item.get("clientside_function")]
    scripts = "\n".join(path.read_text() for path in ASSETS.glob("*.js"))
    assert {item["namespace"] for item in clients} == {"hotbench"}
    for name in {item["function_name"] for item in clients}:
        assert re.search(rf"^\s+{name}(: function|: async function|\(|: \()|\b{name},$", scripts, re.MULTILINE), name


def test_no_script_of_ours_evaluates_text_or_asks_another_machine():
    for path in ASSETS.glob("*.js"):
        text = path.read_text()
        assert not re.search(r"\beval\(|new Function|innerHTML|https?://", text), path.name
