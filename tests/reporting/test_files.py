import errno
import os
import stat
import subprocess
import sys

import pytest

from assay.errors import UsageError
from assay.reporting.files import check_writable, format_of, write_atomically


@pytest.mark.parametrize(
    ("path", "form", "expected"),
    [
        ("a.html", None, "html"),
        ("a.HTM", None, "html"),
        ("a.json", None, "json"),
        ("a.sarif", None, "sarif"),
        ("a.txt", None, "text"),
        ("a", "json", "json"),
        ("a.html", "text", "text"),
    ],
)
def test_the_suffix_decides_unless_the_format_is_named(path, form, expected):
    assert format_of(path, form) == expected


@pytest.mark.parametrize(("path", "form"), [("a.pdf", None), ("a", None), ("a.html", "pdf")])
def test_unknown_formats_are_refused(path, form):
    with pytest.raises(UsageError, match="expected"):
        format_of(path, form)


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, "one — ä")
    write_atomically(path, "two\ud800")
    assert path.read_text(encoding="utf-8") == "two?"
    assert os.listdir(tmp_path) == ["a.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_nothing_half_written_is_left(tmp_path, monkeypatch, error, function):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def raises(*_):
        raise error

    monkeypatch.setattr(os, function, raises)
    with pytest.raises(UsageError if isinstance(error, OSError) else type(error)):
        write_atomically(path, "after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_keeps_pointing_and_its_file_is_replaced(tmp_path):
    (tmp_path / "real.txt").write_text("before")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_atomically(tmp_path / "link.txt", "after")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "after"


def _never(*_):
    raise AssertionError("a device or pipe would have been replaced")


@pytest.fixture
def nothing_is_replaced(monkeypatch):
    """These tests may run as root: should the code be wrong, the machine's devices must survive."""
    monkeypatch.setattr(os, "replace", _never)
    monkeypatch.setattr("pathlib.Path.touch", _never)


@pytest.mark.usefixtures("nothing_is_replaced")
def test_pipes_are_written_to_directly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe, "text")
    write_atomically(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
@pytest.mark.usefixtures("nothing_is_replaced")
def test_a_full_device_is_told_and_stays():
    with pytest.raises(UsageError, match=r"'/dev/full'.*No space left on device\. Free some space"):
        write_atomically("/dev/full", "text")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        write_atomically(path, "after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.usefixtures("nothing_is_replaced")
def test_a_reader_that_has_gone_is_no_failure_to_write(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def gone(*_):
        raise BrokenPipeError

    monkeypatch.setattr("pathlib.Path.write_bytes", gone)
    with pytest.raises(BrokenPipeError):
        write_atomically(pipe, "text")


def test_checking_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a.html")
    check_writable(tmp_path / "model.assay", "assay")
    assert not os.listdir(tmp_path)


def test_paths_that_cannot_be_written_name_path_and_remedy(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"it is a folder\. Add a file name"):
        check_writable(tmp_path, "html")
    with pytest.raises(UsageError, match=r"nosuch.*Create it"):
        check_writable(tmp_path / "nosuch" / "a.html")
    with pytest.raises(UsageError, match="suffix"):
        check_writable(tmp_path / "a.pdf")
    existing = tmp_path / "a.html"
    existing.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="read-only"):
        check_writable(existing)


def test_a_folder_that_takes_no_files_is_refused(tmp_path, monkeypatch):
    def refuses(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", refuses)
    with pytest.raises(UsageError, match="Permission denied"):
        check_writable(tmp_path / "a.html")


def test_checking_does_not_load_torch():
    code = "import sys; from assay.reporting.files import check_writable; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
