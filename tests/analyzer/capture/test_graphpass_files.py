import pytest

from analyzer.capture.graphpass import _read_records
from analyzer.errors import HotbenchError


@pytest.mark.parametrize("profile", [None, "", '{"traceEvents": [', "{}"])
def test_a_record_that_is_not_whole_is_one_line(tmp_path, profile):
    if profile is not None:
        (tmp_path / "profile.json").write_text(profile)
    with pytest.raises(HotbenchError, match="TMPDIR") as caught:
        _read_records(tmp_path / "profile.json", tmp_path / "trace.json")
    assert "\n" not in str(caught.value)
