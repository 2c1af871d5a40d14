import sys

import pytest

from assay.errors import UsageError, UserCodeError
from assay.place import import_place, split_target
from assay.target import builders_in, load

SOURCE = """
import torch
from torch import nn
from helper import WIDTH

class Net(nn.Linear):
    def __init__(self, d: int = WIDTH):
        super().__init__(d, d)

class NotANet:
    pass

def small(b: int = 2, d: int = WIDTH):
    return Net(d), torch.ones(b, d)

def needs(text):
    return text

NUMBER = 3
_private = small
ready = small()
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "helper.py").write_text("WIDTH = 5\n")
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    yield path
    for name in [n for n in sys.modules if n == "helper" or n.startswith("_assay_target_")]:
        del sys.modules[name]


def test_a_file_and_its_siblings(file):
    build = load(f"{file}:small", sizes={"b": 3})
    assert build.sizes == {"b": 3, "d": 5}
    assert build.name == f"{file}:small"
    assert build().forward().shape == (3, 5)
    assert load(f"{file}:ready")().forward().shape == (2, 5)
    assert load(f"{file}:Net").sizes == {"d": 5}


def test_loading_twice_gives_the_same_module(file):
    assert import_place(str(file), "x") is import_place(str(file), "x")


def test_builders_are_listed(file):
    assert builders_in(import_place(str(file), "x")) == ["Net", "small"]


def test_a_module():
    assert load("torch.nn:Identity").name == "torch.nn:Identity"
    assert "Linear" in builders_in(import_place("torch.nn", "x"))


def test_module_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "mynet_in_cwd.py").write_text(
        "import torch\ndef f(b: int = 1): return torch.nn.Identity()"
    )
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.chdir(tmp_path)
    assert load("mynet_in_cwd:f").sizes == {"b": 1}


@pytest.mark.parametrize("text", ["", "x", ":x", "x:", "net.py", "a b:c", "a..b:c"])
def test_bad_forms(text):
    with pytest.raises(UsageError, match="target"):
        load(text)


def test_a_missing_file_suggests_a_close_one(file):
    with pytest.raises(UsageError, match=r"does not exist\. Did you mean .*net\.py\?"):
        split_target(f"{file.parent}/nets.py:small")
    with pytest.raises(UsageError, match="Check the path"):
        split_target("/no/such/folder/x.py:y")


def test_a_folder_is_called_one(file):
    with pytest.raises(
        UsageError, match=r"but '.*' is a folder\. Name one in it, as in .*\.py:NAME"
    ):
        load(f"{file.parent}:build")


def test_a_missing_name_suggests_a_close_one(file):
    with pytest.raises(UsageError, match=r"no 'smal'. Did you mean 'small'\? It has Net, small"):
        load(f"{file}:smal")
    with pytest.raises(UsageError, match="no 'qqq'"):
        load(f"{file}:Net.qqq")


def test_a_name_that_is_no_builder(file):
    with pytest.raises(UsageError, match="`NUMBER` is of type int"):
        load(f"{file}:NUMBER")


def test_a_missing_module_is_not_a_broken_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "broken_inside.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "broken_line.py").write_text("1 / 0\n")
    with pytest.raises(UsageError, match="no module named 'no_such_module_x'"):
        load("no_such_module_x:f")
    with pytest.raises(UsageError, match=r"no module named 'torch\.nothing'"):
        load("torch.nothing:f")
    with pytest.raises(UserCodeError, match="no_such_package_at_all"):
        load("broken_inside:f")
    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        load("broken_line:f")


def test_a_file_that_raises_keeps_its_traceback(tmp_path):
    path = tmp_path / "raises.py"
    path.write_text("def f():\n    return 1 / 0\nf()\n")
    with pytest.raises(UserCodeError) as caught:
        load(f"{path}:f")
    assert "return 1 / 0" in caught.value.user_traceback()
    assert not [name for name in sys.modules if name.startswith("_assay_target_raises")]
    path.write_text("def f(: pass")
    with pytest.raises(UserCodeError, match="SyntaxError"):
        load(f"{path}:f")


def test_an_exit_while_importing_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    for target in (f"{tmp_path}/leaves.py:f", "leaves:f"):
        with pytest.raises(UserCodeError, match="SystemExit: 0"):
            load(target)


@pytest.mark.parametrize("marked", [True, False])
def test_a_file_that_imports_its_neighbours_relatively(tmp_path, marked, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = tmp_path / f"package_{marked}"
    package.mkdir()
    (package / "layers.py").write_text("from torch.nn import Linear as Layer\n")
    (package / "net.py").write_text(
        "import torch\nfrom .layers import Layer\ndef build(b: int = 2):\n"
        "    return Layer(3, 4), torch.zeros(b, 3)\n"
    )
    if marked:
        (package / "__init__.py").write_text("")
    assert load(f"{package}/net.py:build")(b=5).forward().shape == (5, 4)
    (package / "broken.py").write_text("from .missing import Layer\ndef build(): ...\n")
    with pytest.raises(UserCodeError, match="missing"):
        load(f"{package}/broken.py:build")
