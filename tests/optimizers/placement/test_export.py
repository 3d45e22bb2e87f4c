import json
import re

import pytest

from analyzer.errors import RecordError
from optimizers.placement.backends import unavailable
from optimizers.placement.buckets import Gradient, decode_buckets, make_buckets
from optimizers.placement.export import artifact_files, check_files, launch_lines

BUCKETS = make_buckets([Gradient("head.weight", (3, 5), "float32", 60, 0.01)], 3 << 20, world_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("artifact")
    for name, content in artifact_files(BUCKETS).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def test_an_artifact_has_plan_and_launch_and_imports_nothing_of_hotbench(folder):
    assert decode_buckets((folder / "bucket_plan.json").read_bytes()) == BUCKETS
    assert json.loads((folder / "launch.json").read_text())["bucket_megabytes"] == 3.0
    sources = [path.read_text() for path in folder.rglob("*.py")]
    assert len(sources) > 10 and not any(re.search(r"^\s*(from|import) (analyzer|optimizers|kernels|app)\b", text, re.M)
                                         for text in sources)  # fmt: skip


def test_launch_lines_name_the_workers_the_secret_and_the_loader():
    text = launch_lines(6)
    assert "--nproc-per-node=6 train.py" in text and "--nproc-per-node=3" in text and "HOTBENCH_SECRET" in text
    assert '["wrap"](model)' in text


def test_two_fresh_workers_with_the_artifact_alone_get_the_mean_of_their_gradients(folder):
    if unavailable("hotbench"):
        pytest.skip(unavailable("hotbench"))
    assert check_files(folder) <= 1e-6


def test_an_artifact_whose_code_is_broken_is_told_in_its_own_words(tmp_path):
    (tmp_path / "load.py").write_text("raise RuntimeError('no libucp here')")
    with pytest.raises(RecordError, match="does not run in fresh workers: RuntimeError: no libucp here"):
        check_files(tmp_path)
