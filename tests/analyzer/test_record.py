import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import RecordError
from analyzer.record import MANIFEST, from_plain, read_folder, to_plain, write_folder


@dataclass(frozen=True)
class Inner:
    name: str
    value: float | None


@dataclass(frozen=True)
class Outer:
    inners: tuple[Inner, ...]
    pair: tuple[int, str]
    table: dict[str, Inner]
    flag: bool = False
    words: list[str] = field(default_factory=list)


inners = st.builds(Inner, st.text(max_size=5), st.none() | st.floats(allow_nan=False))
outers = st.builds(
    Outer,
    st.lists(inners, max_size=3).map(tuple),
    st.tuples(st.integers(), st.text(max_size=3)),
    st.dictionaries(st.text(max_size=3), inners, max_size=3),
    st.booleans(),
    st.lists(st.text(max_size=3), max_size=3),
)


@given(outers)
def test_a_value_survives_json(value):
    text = json.dumps(to_plain(value), allow_nan=False)
    assert from_plain(Outer, json.loads(text)) == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inners": [], "pair": [1, "a"], "table": {}, "wrong": 1}, "no field 'wrong'"),
        ({"inners": [], "pair": [1], "table": {}}, "1 items where 2"),
        ({"inners": [{"name": 3, "value": None}], "pair": [1, "a"], "table": {}}, "3 is no str"),
        ({"inners": 5, "pair": [1, "a"], "table": {}}, "5 is no list"),
        ([], "should be"),
        ({"pair": [1, "a"], "table": {}}, "inners"),
        ({"inners": [], "pair": [True, "a"], "table": {}}, "True is no int"),
    ],
)
def test_other_data_is_refused_in_one_line(data, message):
    with pytest.raises(RecordError, match=message) as caught:
        from_plain(Outer, data)
    assert "\n" not in str(caught.value)


def test_a_folder_comes_back_with_its_hashes(tmp_path):
    written = write_folder(
        tmp_path / "run", {"a.txt": b"alpha", "sub/b.bin": lambda path: path.write_bytes(b"beta")}, "run", "run-1"
    )
    read = read_folder(tmp_path / "run", "run")
    assert read == written
    assert set(read.files) == {"a.txt", "sub/b.bin"}
    assert read.digest() == written.digest()


def test_the_digest_changes_with_the_content(tmp_path):
    one = write_folder(tmp_path / "one", {"a": b"1"}, "run", "run-1")
    two = write_folder(tmp_path / "two", {"a": b"2"}, "run", "run-1")
    assert one.digest() != two.digest()


def test_a_changed_file_is_refused(tmp_path):
    write_folder(tmp_path / "run", {"a.txt": b"alpha"}, "run", "run-1")
    (tmp_path / "run" / "a.txt").write_bytes(b"alphA")
    with pytest.raises(RecordError, match="corrupt: a.txt differs"):
        read_folder(tmp_path / "run", "run")


def test_a_missing_file_is_refused(tmp_path):
    write_folder(tmp_path / "run", {"a.txt": b"alpha"}, "run", "run-1")
    (tmp_path / "run" / "a.txt").unlink()
    with pytest.raises(RecordError, match="incomplete: a.txt is missing"):
        read_folder(tmp_path / "run", "run")


def test_a_truncated_manifest_is_refused(tmp_path):
    write_folder(tmp_path / "run", {"a.txt": b"alpha"}, "run", "run-1")
    (tmp_path / "run" / MANIFEST).write_bytes(b'{"kind": "ru')
    with pytest.raises(RecordError, match="cannot be read"):
        read_folder(tmp_path / "run", "run")


def test_a_manifest_that_points_outside_is_refused(tmp_path):
    write_folder(tmp_path / "run", {"a.txt": b"alpha"}, "run", "run-1")
    path = tmp_path / "run" / MANIFEST
    data = json.loads(path.read_bytes())
    data["files"]["../secret"] = "0" * 64
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError, match="outside itself"):
        read_folder(tmp_path / "run", "run")


def test_another_kind_and_a_newer_format_are_refused(tmp_path):
    write_folder(tmp_path / "run", {"a.txt": b"alpha"}, "run", "run-1")
    with pytest.raises(RecordError, match="holds a run, not a plan"):
        read_folder(tmp_path / "run", "plan")
    path = tmp_path / "run" / MANIFEST
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(RecordError, match="format 99"):
        read_folder(tmp_path / "run", "run")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RecordError, match="no folder"):
        read_folder(tmp_path / "nothing", "run")


def test_a_full_disk_leaves_nothing(tmp_path):
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RecordError, match="No space left"):
        write_folder(tmp_path / "run", {"a.txt": b"alpha", "b.txt": fail}, "run", "run-1")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_folder(tmp_path):
    write_folder(tmp_path / "run", {"a.txt": b"old"}, "run", "run-1")

    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RecordError):
        write_folder(tmp_path / "run", {"a.txt": fail}, "run", "run-1")
    read_folder(tmp_path / "run", "run")
    assert (tmp_path / "run" / "a.txt").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_saved_folder_is_replaced_whole(tmp_path):
    write_folder(tmp_path / "run", {"a.txt": b"old", "gone.txt": b"x"}, "run", "run-1")
    write_folder(tmp_path / "run", {"a.txt": b"new"}, "run", "run-2")
    assert read_folder(tmp_path / "run", "run").id == "run-2"
    assert not (tmp_path / "run" / "gone.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_of_the_users_own_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RecordError, match="choose another place"):
        write_folder(tmp_path / "mine", {"a.txt": b"x"}, "run", "run-1")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
