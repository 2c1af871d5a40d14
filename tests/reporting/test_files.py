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


def test_devices_are_written_to_directly():
    check_writable(os.devnull, "text")
    write_atomically(os.devnull, "gone")
    assert not os.path.isfile(os.devnull)


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
