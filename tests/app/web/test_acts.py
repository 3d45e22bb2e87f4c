"""Whatever changes something asks for a role first: looked up in the source, since a callback has no address."""

import ast
from pathlib import Path

from app import server

APP = Path(server.__file__).parent
CHANGES = {
    "submit",
    "cancel",
    "requeue",
    "tag",
    "discard",
    "discard_run",
    "save",
    "adopt",
    "publish",
    "keep",
    "undo",
    "add_comment",
    "add_review",
    "decide_on",
    "revoke_worker",
    "add_user",
    "remove_user",
    "set_password",
    "set_role",
}
# Workers' routes ask for a token instead; their tests are beside them.
OTHERS = {"api/workers.py", "api/worker_data.py"}


def called(node):
    """Return the names of what a function calls; of `keeps`, which is handed on before it is called, all names."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            found |= {getattr(inner.func, "attr", None), getattr(inner.func, "id", None)} - {None}
        elif isinstance(inner, ast.Attribute) and getattr(inner.value, "id", None) == "keeps":
            found.add(inner.attr)
    return found


def innermost_functions(node):
    for child in node.body:
        if isinstance(child, ast.FunctionDef):
            inner = list(innermost_functions(child))
            yield from inner or [child]


def careless_functions(source):
    """Return the functions of a module that change something, and neither they nor all their callers ask for a role."""
    calls = {function.name: called(function) for function in innermost_functions(ast.parse(source))}

    def asks(name):
        callers = [caller for caller, names in calls.items() if name in names]
        return "require" in calls[name] or (bool(callers) and all("require" in calls[caller] for caller in callers))

    return [name for name, names in calls.items() if names & CHANGES and not asks(name)]


def test_no_page_component_or_route_changes_anything_without_a_role():
    looked_at = 0
    for folder in ("pages", "components", "api"):
        for path in sorted((APP / folder).rglob("*.py")):
            name = path.relative_to(APP).as_posix()
            if name not in OTHERS:
                looked_at += 1
                assert careless_functions(path.read_text(encoding="utf-8")) == [], name
    assert looked_at > 20


def test_a_careless_act_is_found():
    source = """
def careful(store):
    require("editor")
    store.tag(1, ())

def register(app):
    @app.callback()
    def _careless(value):
        return context().jobs.submit(value)
"""
    assert careless_functions(source) == ["_careless"]


def test_a_part_of_a_careful_act_is_careful_while_nobody_else_calls_it():
    source = """
def act(jobs):
    require("editor")
    _part(jobs)

def _part(jobs):
    jobs.submit(1)
"""
    assert careless_functions(source) == []
    assert careless_functions(source + "def other(jobs):\n    _part(jobs)\n") == ["_part"]
