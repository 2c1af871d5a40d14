import inspect

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from assay.where import Location, here, is_ours


def line_of(function, text):
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(lines) if text in line)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

    def forward(self, x):
        y = self.inner(x)
        return y * 2


class Watch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[func.__name__.split(".")[0]] = here(skip=2)
        return func(*args, **(kwargs or {}))


def test_the_line_is_the_users_even_inside_torchs_modules():
    with Watch() as watch:
        Net()(torch.ones(2, 3))
    assert watch.seen["addmm"].line == line_of(Net, "self.inner(x)")
    assert watch.seen["mul"].line == line_of(Net, "y * 2")
    assert watch.seen["mul"].function == "forward"
    assert watch.seen["mul"].file == __file__
    assert watch.seen["mul"].code == "return y * 2"


def test_short_prefers_the_shorter_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Location(str(tmp_path / "net.py"), 3).short == "net.py:3"
    assert str(Location("/x.py", 1)) == "/x.py:1"
    assert Location("/no/such.py", 1).code == ""
    installed = "/opt/venv/lib/python3.11/site-packages/timm/layers/mlp.py"
    assert Location(installed, 42).short == "timm/layers/mlp.py:42"


def test_ours_and_theirs():
    import assay.where

    assert is_ours(assay.where.__file__)
    assert not is_ours(__file__)


def test_no_user_frame_gives_none(monkeypatch):
    import assay.where

    monkeypatch.setattr(assay.where, "is_plumbing", lambda filename: True)
    assert here() is None
