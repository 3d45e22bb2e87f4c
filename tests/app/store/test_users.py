import pytest

from app.store import StoreError, open_store
from app.store.users import (
    add_user,
    check_password,
    remove_user,
    set_password,
    set_role,
    user,
    users,
)

PASSWORD = "a good long password"


@pytest.fixture
def database(tmp_path):
    with open_store(str(tmp_path)) as store:
        yield store.database


def test_a_user_is_found_with_the_right_password_alone(database):
    added = add_user(database, "ada", PASSWORD, "admin")
    assert check_password(database, "ada", PASSWORD) == added
    assert check_password(database, "ada", PASSWORD + " ") is None
    assert check_password(database, "ada", "") is None
    assert check_password(database, "bob", PASSWORD) is None


def test_no_password_is_stored(database, tmp_path):
    add_user(database, "ada", PASSWORD, "admin")
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in stored
    assert b"scrypt" in stored


def test_users_are_listed_by_name(database):
    for name, role in (("zoe", "viewer"), ("ada", "admin"), ("bob.smith@example.org", "editor")):
        add_user(database, name, PASSWORD, role)
    assert [(one.name, one.role) for one in users(database)] == [
        ("ada", "admin"),
        ("bob.smith@example.org", "editor"),
        ("zoe", "viewer"),
    ]


@pytest.mark.parametrize("name", ["", "Ada", "a b", "a/b", "ada\n", "<b>", "x" * 65, "local", "ä", "-ada"])
def test_a_name_that_cannot_be_is_refused(database, name):
    with pytest.raises(StoreError, match="cannot be a user's name"):
        add_user(database, name, PASSWORD, "admin")
    assert users(database) == ()


@pytest.mark.parametrize("password, why", [("short", "too short"), ("x" * 2000, "too long"), ("aaaaaaaaaaaa", "easy")])
def test_a_weak_password_is_refused(database, password, why):
    with pytest.raises(StoreError, match=f"password of ada is {why}"):
        add_user(database, "ada", password, "admin")
    assert users(database) == ()


def test_the_name_is_no_password(database):
    with pytest.raises(StoreError, match="easy to guess"):
        add_user(database, "adalovelace", "AdaLovelace", "admin")


def test_an_unknown_role_is_refused(database):
    with pytest.raises(StoreError, match="'root' is no role; take one of viewer, editor, admin"):
        add_user(database, "ada", PASSWORD, "root")


def test_a_name_is_given_once(database):
    add_user(database, "ada", PASSWORD, "admin")
    with pytest.raises(StoreError, match="there is a user 'ada' already"):
        add_user(database, "ada", "another good password", "viewer")
    assert check_password(database, "ada", PASSWORD) is not None


def test_a_new_password_replaces_the_old_one_and_ends_logins(database):
    before = add_user(database, "ada", PASSWORD, "admin")
    after = set_password(database, "ada", "another good password")
    assert check_password(database, "ada", PASSWORD) is None
    assert check_password(database, "ada", "another good password") == after
    assert after.session != before.session


def test_a_new_role_ends_logins(database):
    add_user(database, "ada", PASSWORD, "admin")
    before = add_user(database, "bob", PASSWORD, "viewer")
    after = set_role(database, "bob", "editor")
    assert (after.role, after.session != before.session) == ("editor", True)


@pytest.mark.parametrize("act", [remove_user, lambda database, name: set_role(database, name, "viewer")])
def test_the_last_admin_stays_while_there_are_others(database, act):
    before = add_user(database, "ada", PASSWORD, "admin")
    add_user(database, "bob", PASSWORD, "editor")
    with pytest.raises(StoreError, match="ada is the only admin"):
        act(database, "ada")
    assert user(database, "ada") == before


def test_the_last_user_of_all_may_go(database):
    add_user(database, "ada", PASSWORD, "admin")
    remove_user(database, "ada")
    assert users(database) == ()


@pytest.mark.parametrize(
    "act",
    [
        remove_user,
        lambda database, name: set_role(database, name, "viewer"),
        lambda database, name: set_password(database, name, PASSWORD),
    ],
)
def test_an_unknown_user_is_told_with_those_there_are(database, act):
    add_user(database, "ada", PASSWORD, "admin")
    with pytest.raises(StoreError, match="no user 'bob'; known: ada"):
        act(database, "bob")
