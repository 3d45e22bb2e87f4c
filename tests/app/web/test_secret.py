import stat

import pytest

from app.store import StoreError, open_store
from app.web.secret import _from_settings, secret_key


def key_file(folder):
    return folder / "hotbench.key"


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    with open_store(str(tmp_path)) as store:
        key = secret_key(store)
    with open_store(str(tmp_path)) as store:
        assert secret_key(store) == key
    assert len(key) == 64
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".key")] == []


def test_two_stores_have_two_keys(tmp_path):
    with open_store(str(tmp_path / "a")) as first, open_store(str(tmp_path / "b")) as second:
        assert secret_key(first) != secret_key(second)


def test_a_key_that_others_could_read_is_closed_again(tmp_path):
    with open_store(str(tmp_path)) as store:
        secret_key(store)
        key_file(tmp_path).chmod(0o644)
        secret_key(store)
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600


@pytest.mark.parametrize("damaged", [b"", b"short", b"\xff" * 64])
def test_a_damaged_key_is_no_key(tmp_path, damaged):
    with open_store(str(tmp_path)) as store:
        key_file(tmp_path).write_bytes(damaged)
        with pytest.raises(StoreError, match="key file .*hotbench.key.* remove it"):
            secret_key(store)


def test_a_database_elsewhere_keeps_the_key_itself(tmp_path):
    with open_store(str(tmp_path)) as store:
        key = _from_settings(store)
        assert _from_settings(store) == key
    assert not key_file(tmp_path).exists()
