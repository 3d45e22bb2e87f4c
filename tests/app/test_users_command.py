import io
import json

import pytest

from app import cli
from app.store import open_store
from app.store.users import check_password

PASSWORD = "a good long password"


@pytest.fixture
def users(tmp_path, monkeypatch, capsys):
    """Return a function that runs `hotbench users …` with a line on stdin: (code, what it said)."""
    place = str(tmp_path / "store")

    def run(*arguments, stdin=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = cli.main(["users", *arguments, "--store", place])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    run.place = place
    return run


def test_a_user_is_added_listed_changed_and_removed(users):
    assert users("list")[1].startswith("nobody yet: `hotbench users add NAME --role admin`")
    assert users("add", "ada", "--role", "admin", "--password-stdin", stdin=f"{PASSWORD}\n") == (
        0,
        "ada may log in as admin\n",
    )
    assert users("add", "bob", "--password-stdin", stdin=PASSWORD)[0] == 0
    _, text = users("list", "--json")
    assert [(one["name"], one["role"]) for one in json.loads(text)["users"]] == [("ada", "admin"), ("bob", "viewer")]
    assert users("role", "bob", "--role", "editor")[1] == "bob is editor now and must log in again\n"
    assert users("password", "bob", "--password-stdin", stdin="quite another one\n")[0] == 0
    with open_store(users.place) as store:
        assert check_password(store.database, "bob", "quite another one").role == "editor"
    assert users("remove", "bob") == (0, "bob is removed and logged out\n")
    assert "bob" not in users("list")[1]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["add"], "whom? write `hotbench users add NAME`"),
        (["list", "ada"], "list takes no name, got 'ada'"),
        (["role", "ada"], "which role?"),
        (["remove", "ada", "--role", "admin"], "--role goes with add and role, not with remove"),
        (["remove", "ada"], "no user 'ada'; known: nobody yet"),
        (["add", "ada"], "no terminal to type the password on; give it with --password-stdin"),
        (["add", "ada", "--password-stdin"], "password of ada is too short"),
        (["add", "ada", "--role", "root"], "invalid choice: 'root'"),
        (["invite", "ada"], "invalid choice: 'invite'"),
    ],
)
def test_a_mistake_is_told_in_one_line(users, arguments, words):
    code, text = users(*arguments)
    assert code == 2
    assert words in text
    assert text.count("\n") == 1


def test_two_different_passwords_change_nothing(users, monkeypatch):
    typed = iter([PASSWORD, PASSWORD + "!"])
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    assert cli.main(["users", "add", "ada", "--store", users.place]) == 2
    assert "nobody yet" in users("list")[1]
