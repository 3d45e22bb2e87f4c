"""Where libucp is looked for, and what is said where there is none."""

from __future__ import annotations

import pytest

from optimizers.placement.transport import library
from optimizers.placement.transport.library import available, find_library


def test_the_library_that_is_found_loads_and_says_its_version():
    found = find_library()
    if isinstance(found, str):
        pytest.skip(found)
    assert found.version >= library.OLDEST
    assert hasattr(found.load(), "ucp_put_nbx")
    assert str(found).startswith(f"UCX {found.version[0]}.{found.version[1]}")


def test_a_path_that_is_given_is_the_only_one_that_is_tried(monkeypatch, tmp_path):
    monkeypatch.setenv(library.VARIABLE, str(tmp_path / "libucp.so.0"))
    reason = available()
    assert str(tmp_path) in reason
    assert "HOTBENCH_UCX to libucp.so.0" in reason
    assert "\n" not in reason


def test_a_library_that_is_not_ucp_is_refused_by_its_name(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "libc.so.6")
    assert "libc.so.6 does not load as libucp" in available()


def test_without_any_library_the_answer_says_what_to_install(monkeypatch):
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "_candidates", lambda explicit: iter(()))
    library._searched.cache_clear()
    try:
        assert "install mpich with pip" in available()
    finally:
        library._searched.cache_clear()


def test_an_old_library_is_refused_with_its_version(monkeypatch):
    found = find_library()
    if isinstance(found, str):
        pytest.skip(found)
    monkeypatch.setattr(library, "OLDEST", (99, 0))
    library._searched.cache_clear()
    try:
        assert "older than 99.0" in available()
    finally:
        library._searched.cache_clear()
