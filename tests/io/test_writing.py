"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest

from probseq import DataError
from probseq.io.writing import check_writable, write_text, write_whole


def test_what_is_written_is_there_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "er" / "file.csv"
    assert write_text(place, "naïve\n") == place
    assert place.read_text(encoding="utf-8") == "naïve\n"
    assert [path.name for path in place.parent.iterdir()] == ["file.csv"]


def test_a_failure_leaves_the_old_file_and_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_whole(tmp_path / "file", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match="no space left on device at .*file; choose another place"):
        write_whole(place, b"new")
    assert place.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    place = write_whole(tmp_path / "file", b"old")
    place.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(place)
    write_whole(link, b"new")
    assert link.is_symlink() and place.read_bytes() == b"new"
    assert place.stat().st_mode & 0o777 == 0o640


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_whole("/dev/null", b"anything")
    assert not Path("/dev/null").is_file()


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    file = write_whole(tmp_path / "file", b"")
    with pytest.raises(DataError, match="is a directory at"):
        write_whole(tmp_path, b"")
    with pytest.raises(DataError, match="got .* at .*file/under"):
        write_whole(file / "under", b"")
    with pytest.raises(DataError, match="a directory is there"):
        check_writable(tmp_path)
    with pytest.raises(DataError, match="a file is there"):
        check_writable(file, directory=True)
    with pytest.raises(DataError, match="file is a file"):
        check_writable(file / "under" / "deep")
    check_writable(tmp_path / "new" / "file")
    check_writable(tmp_path, directory=True)
