"""The artifacts page: files, hash, download, and what is damaged."""

import json

import pytest

from app.pages import artifacts as page
from app.store import StoreError


def texts(tree):
    return json.dumps(tree.to_plotly_json(), default=lambda item: item.to_plotly_json(), ensure_ascii=False)


def test_an_empty_list_says_how_an_artifact_is_made(desk):
    assert "No artifact yet" in texts(page.layout({})) and "/experiments" in texts(page.layout({}))


def test_the_list_has_size_hash_verdict_and_download(desk):
    entry = desk.save_artifact(b"x" * 2000)
    shown = texts(page.layout({}))
    assert f"/api/artifacts/{entry.id}.zip" in shown and entry.digest[:12] in shown
    assert "1.98 KiB" in shown


def test_the_detail_names_every_file_with_its_hash_and_says_how_to_load_it(desk):
    entry = desk.save_artifact()
    shown = texts(page.layout({"artifact": entry.id}))
    assert "weights/all.bin" in shown and entry.digest in shown
    assert f'runpy.run_path(\\"{entry.id}/load.py\\")' in shown


def test_a_damaged_artifact_is_told_of_and_not_offered(desk):
    entry = desk.save_artifact()
    (desk.store.folder(entry) / "load.py").unlink()
    for shown in (texts(page.layout({})), texts(page.layout({"artifact": entry.id}))):
        assert "damaged" in shown and "/api/artifacts/" not in shown
    assert "load.py is missing; export it again" in texts(page.layout({"artifact": entry.id}))


def test_an_artifact_whose_folder_is_gone_does_not_hide_the_others(desk):
    gone, whole = desk.save_artifact(b"a"), desk.save_artifact(b"b")
    folder = desk.store.folder(gone)
    folder.rename(folder.with_name("elsewhere"))
    shown = texts(page.layout({}))
    assert "damaged" in shown and f"/api/artifacts/{whole.id}.zip" in shown


def test_an_unknown_artifact_is_refused_without_naming_the_stores_place(desk):
    with pytest.raises(StoreError) as error:
        page.layout({"artifact": "../../etc"})
    assert desk.store.label not in str(error.value)
