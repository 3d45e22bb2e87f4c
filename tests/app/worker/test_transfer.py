"""What is packed comes out as it was; what is crafted to break out of its folder is refused, and nothing is written."""

import io
import stat
import zipfile

import pytest

from analyzer.errors import RecordError
from app.worker.transfer import pack, unpack


def packed(*entries):
    """Return a zip of (name, bytes, mode) as a stream."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    stream.seek(0)
    return stream


def file(name, data=b"x"):
    return name, data, stat.S_IFREG | 0o644


def test_a_folder_comes_out_as_it_was_and_packs_to_the_same_bytes(tmp_path):
    source = tmp_path / "source"
    (source / "blobs" / "0").mkdir(parents=True)
    (source / "a.json").write_bytes(b"{}" * 1000)
    (source / "blobs" / "0" / "program").write_bytes(bytes(range(256)))
    (source / "empty").write_bytes(b"")
    (source / "link").symlink_to(tmp_path)
    first, second = io.BytesIO(), io.BytesIO()
    pack(source, first)
    pack(source, second)
    assert first.getvalue() == second.getvalue()
    first.seek(0)
    unpack(first, tmp_path / "target")
    names = sorted(path.relative_to(tmp_path / "target").as_posix() for path in (tmp_path / "target").rglob("*"))
    assert names == ["a.json", "blobs", "blobs/0", "blobs/0/program", "empty"]
    assert (tmp_path / "target" / "blobs" / "0" / "program").read_bytes() == bytes(range(256))


@pytest.mark.parametrize(
    "name",
    ["../out", "a/../../out", "/tmp/out", "..", "a\\..\\out", "C:out", "a/", "new\nline", "x" * 401, "x" * 201 + "/y"],
)
def test_a_name_that_is_no_file_inside_is_refused(tmp_path, name):
    with pytest.raises(RecordError, match="which is no file inside it; nothing was taken"):
        unpack(packed(file("good"), file(name)), tmp_path / "in" / "target")
    assert not (tmp_path / "in").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFDIR | 0o755])
def test_a_link_or_a_device_is_refused(tmp_path, mode):
    with pytest.raises(RecordError, match="holds a link or device, 'sly'; nothing was taken"):
        unpack(packed(("sly", b"/etc/passwd", mode)), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_name_given_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        stream = packed(file("a", b"1"), file("a", b"2"))
    with pytest.raises(RecordError, match="names 'a' twice"):
        unpack(stream, tmp_path / "target")


def test_a_small_upload_cannot_grow_beyond_the_limit(tmp_path):
    stream = packed(file("zeros", bytes(5_000_000)))
    assert len(stream.getvalue()) < 10_000
    with pytest.raises(RecordError, match="unpacks to 5000000 bytes; at most 4999999 are taken"):
        unpack(stream, tmp_path / "target", max_bytes=4_999_999)
    assert not (tmp_path / "target").exists()


def test_a_size_that_is_a_lie_does_not_help(tmp_path):
    data = bytearray(packed(file("zeros", bytes(100_000))).getvalue())
    # The central directory's uncompressed size, at 24 bytes into its only entry.
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(RecordError):
        unpack(io.BytesIO(bytes(data)), tmp_path / "target", max_bytes=1000)
    written = sum(path.stat().st_size for path in (tmp_path / "target").rglob("*"))
    assert written <= 1000


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04" + bytes(30)])
def test_what_is_no_zip_is_refused(tmp_path, data):
    with pytest.raises(RecordError, match="is no readable zip"):
        unpack(io.BytesIO(data), tmp_path / "target")


def test_a_damaged_file_is_refused(tmp_path):
    data = bytearray(packed(file("a", b"some words that are long enough" * 9)).getvalue())
    data[45] ^= 0xFF
    with pytest.raises(RecordError, match="is no readable zip"):
        unpack(io.BytesIO(bytes(data)), tmp_path / "target")


def test_too_many_files_are_refused(tmp_path):
    with pytest.raises(RecordError, match="holds 10001 files; at most 10000"):
        unpack(packed(*[file(str(index), b"") for index in range(10_001)]), tmp_path / "target")
