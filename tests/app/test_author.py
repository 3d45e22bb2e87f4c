import pytest

from app.author import command_line_author, same_person
from app.store import StoreError, open_store
from app.store.users import add_user


def test_it_is_the_systems_user_marked_as_coming_from_the_command_line(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert command_line_author() == "ada (command line)"


def test_no_user_of_the_page_can_be_called_so(monkeypatch, tmp_path):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    with open_store(str(tmp_path)) as store, pytest.raises(StoreError):
        add_user(store.database, command_line_author(), "a good long password", "admin")


@pytest.mark.parametrize("name", ["x" * 500, "a\x1b[31m\nb"])
def test_an_awkward_name_stays_one_short_line(monkeypatch, name):
    monkeypatch.setattr("getpass.getuser", lambda: name)
    author = command_line_author()
    assert len(author) <= 80 and author.isprintable()


def test_a_number_without_a_name_is_told_as_the_command_line(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert command_line_author() == "command line"


def test_a_name_of_the_page_and_of_the_command_line_may_be_one_persons():
    assert same_person("ada", "ada (command line)") and same_person("ada (command line)", "ada")
    assert not same_person("ada", "bob (command line)") and not same_person("", "command line")
