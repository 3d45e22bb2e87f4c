"""Downloads: what leaves is what was saved, named inside its own folder, the same bytes each time."""

import hashlib
import io
import json
import zipfile

import pytest
from flask import Flask

from analyzer.errors import RecordError
from analyzer.record import read_folder, write_folder
from app import workbench
from app.api.artifacts import blueprint, stream_zip
from app.jobs.queue import Jobs
from app.store import open_store
from app.web import context as contexts
from app.web.context import Context, ServerSettings

FILES = {"load.py": b"def load(): return None\n", "kernels/one.py": b"# one\n", "weights.bin": bytes(range(256)) * 700}


@pytest.fixture
def served(stored):
    """Return (client, store, experiment's id) of a small server with this blueprint alone."""
    place, _, _, experiment = stored
    flask = Flask("app")
    flask.register_blueprint(blueprint)
    with open_store(place) as store:
        contexts.install(Context(ServerSettings(store=place), store, Jobs(store.database)), flask.extensions)
        yield flask.test_client(), store, experiment.id


@pytest.fixture
def artifact(served):
    _, store, experiment = served
    return store.save(
        "artifact",
        lambda folder: write_folder(folder, FILES, "artifact", "artifact-0123456789ab"),
        name="model + fusion",
        parent=experiment,
    )


def test_the_zip_holds_every_file_as_it_was_saved_below_one_folder(served, artifact):
    answer = served[0].get(f"/api/artifacts/{artifact.id}.zip")
    assert answer.status_code == 200 and answer.mimetype == "application/zip"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{artifact.id}.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        names = archive.namelist()
        assert names == sorted(names) and all(name.startswith(f"{artifact.id}/") for name in names)
        assert {name: archive.read(f"{artifact.id}/{name}") for name in FILES} == FILES
        assert archive.testzip() is None


def test_an_unpacked_zip_is_the_artifact_again(served, artifact, tmp_path):
    with zipfile.ZipFile(io.BytesIO(served[0].get(f"/api/artifacts/{artifact.id}.zip").data)) as archive:
        archive.extractall(tmp_path)
    assert read_folder(tmp_path / artifact.id, "artifact").digest() == artifact.digest


def test_two_downloads_are_the_same_bytes(served, artifact):
    first, second = (served[0].get(f"/api/artifacts/{artifact.id}.zip").data for _ in range(2))
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_a_changed_file_is_refused_in_words_without_a_path(served, artifact):
    client, store, _ = served
    (store.folder(artifact) / "weights.bin").write_bytes(b"other")
    answer = client.get(f"/api/artifacts/{artifact.id}.zip")
    assert answer.status_code == 409
    words = answer.get_json()["error"]
    assert "weights.bin differs from its hash" in words and str(store.folder(artifact)) not in words


def test_files_and_manifest_changed_together_are_refused_too(served, artifact):
    client, store, _ = served
    write_folder(store.folder(artifact), {"load.py": b"import os\n"}, "artifact", artifact.id)
    answer = client.get(f"/api/artifacts/{artifact.id}.zip")
    assert answer.status_code == 409 and "is not what was saved" in answer.get_json()["error"]


def test_a_file_that_changes_while_it_is_read_ends_the_download(served, artifact):
    _, store, _ = served
    folder = store.folder(artifact)
    chunks = stream_zip(folder, read_folder(folder, "artifact"))
    next(chunks)
    (folder / "weights.bin").write_bytes(b"swapped")
    with pytest.raises(RecordError, match=r"weights\.bin of artifact-0123456789ab changed"):
        list(chunks)


@pytest.mark.parametrize(
    "path",
    [
        "/api/artifacts/artifact-ff.zip",
        "/api/artifacts/..%2f..%2fetc%2fpasswd.zip",
        "/api/artifacts/latest.zip",
        "/api/reports/report-ff.html",
        "/api/reports/report-ff.md",
    ],
)
def test_what_the_store_does_not_hold_is_not_found(served, artifact, path):
    answer = served[0].get(path)
    assert answer.status_code == 404
    assert served[1].label not in answer.text


def test_an_experiment_is_no_artifact(served):
    assert served[0].get(f"/api/artifacts/{served[2]}.zip").status_code == 404


def test_a_published_report_is_served_byte_for_byte_and_sandboxed(served):
    client, store, experiment = served
    entry = workbench.publish(store, experiment, "ada")
    answer = client.get(f"/api/reports/{entry.id}.html")
    assert answer.data == (store.folder(entry) / "report.html").read_bytes()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts") and "allow-same-origin" not in policy
    assert "default-src 'none'" in policy and "connect-src" not in policy
    assert answer.headers["Content-Disposition"].startswith("inline")
    saved = client.get(f"/api/reports/{entry.id}.html?download=1")
    assert saved.headers["Content-Disposition"] == f'attachment; filename="{entry.id}.html"'


def test_a_published_report_is_given_as_markdown(served):
    client, store, experiment = served
    entry = workbench.publish(store, experiment, "ada")
    answer = client.get(f"/api/reports/{entry.id}.md")
    assert answer.mimetype == "text/markdown" and b"**Verdict: faster.**" in answer.data


def test_a_changed_report_is_refused(served):
    client, store, experiment = served
    entry = workbench.publish(store, experiment, "ada")
    path = store.folder(entry) / "about.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "published_by": "eve"}))
    for suffix in ("html", "md"):
        assert client.get(f"/api/reports/{entry.id}.{suffix}").status_code == 409


def test_an_exported_kernel_leaves_as_it_was_saved_or_not_at_all(served):
    client, store, experiment = served
    files = {"reproduce.py": b"pass\n", "kernels/one.py": b"# one\n"}
    entry = store.save(
        "reproducer",
        lambda folder: write_folder(folder, files, "reproducer", "reproducer-0123456789ab"),
        name="region_1",
        parent=experiment,
    )
    answer = client.get(f"/api/reproducers/{entry.id}.zip")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert {name: archive.read(f"{entry.id}/{name}") for name in files} == files
    assert client.get("/api/reproducers/artifact-0123456789ab.zip").status_code == 404
    (store.folder(entry) / "reproduce.py").write_bytes(b"import os\n")
    assert client.get(f"/api/reproducers/{entry.id}.zip").status_code == 409
