"""A repair changes what it is told for, or says plainly that there is nothing to do."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale
from assay.scale.past import past_skips
from assay.scale.skips import Skips


def found(model, x, loss=None):
    scale = measure_scale((model, x, loss) if loss else (model, x))
    return {finding.rule: finding for finding in scale.findings}


class Classifier(nn.Module):
    """A post-norm encoder whose embedding has the width that it should have."""

    def __init__(self, head=None):
        super().__init__()
        self.e, self.h = nn.Embedding(100, 64), nn.Linear(64, 2)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 3)
        if head:
            nn.init.normal_(self.h.weight, std=head)

    def forward(self, x):
        return self.h(self.body(self.e(x)).mean(1))


TOKENS = torch.randint(100, (16, 24), generator=torch.Generator().manual_seed(0))


def test_an_embedding_of_width_1_is_not_to_be_drawn_again():
    torch.manual_seed(0)
    for finding in found(Classifier(), TOKENS).values():
        assert "model.e.weight" not in finding.repair


def test_a_table_of_width_1_of_which_mostly_padding_is_looked_up():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(100, 64, padding_idx=0), nn.Linear(64, 64))
    tokens = TOKENS * (torch.rand(TOKENS.shape) < 0.04)
    repair = found(model, tokens)["scale.forward-variance"].repair
    assert repair.startswith("nothing to draw again: the rows of the table have the width 1")
    nn.init.normal_(model[0].weight, std=0.02)
    assert "std=1.0" in found(model, TOKENS)["scale.forward-variance"].repair


class Graph(nn.Module):
    """Two layers of a graph of which each node takes the mean of all."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x, mix):
        return mix @ self.head((mix @ self.first(x)).relu())


def test_the_width_of_an_operator_is_no_repair_of_the_gradient_that_arrives_there():
    torch.manual_seed(0)
    x, y = (
        (torch.randn(128, 32), torch.eye(128) / 2 + torch.rand(128, 128) / 256),
        torch.arange(128) % 4,
    )
    model = Graph()
    before = found(model, x, lambda o: F.cross_entropy(o, y))
    assert "model.first.weight" not in before["scale.backward-variance"].repair
    assert "(head.weight); then measure again" in before["scale.backward-variance"].repair
    assert "model.head.weight" in before["scale.forward-variance"].repair
    nn.init.normal_(model.head.weight, std=1.0)
    after = found(model, x, lambda o: F.cross_entropy(o, y))
    assert "scale.backward-variance" not in after


class Looked(nn.Module):
    """What stands between two operators of the right width takes most of the gradient."""

    def __init__(self, first):
        super().__init__()
        self.first, self.last = first, nn.Linear(64, 64)
        nn.init.normal_(self.last.weight, std=1 / 8)

    def forward(self, x):
        u = self.first(x)
        return self.last((u + 4 * u.detach()) / 5)


def test_where_all_have_their_width_nothing_is_drawn_and_the_place_is_named():
    torch.manual_seed(0)
    finding = found(Looked(nn.Embedding(100, 64)), TOKENS)["scale.backward-variance"]
    assert finding.severity == "note"
    assert finding.repair.startswith(
        "nothing to draw again: the weights behind it have their width"
    )
    assert "from model (add) back to first.weight (embedding)" in finding.repair
    first = nn.Linear(64, 64)
    nn.init.normal_(first.weight, std=1 / 8)
    finding = found(Looked(first), torch.randn(256, 64))["scale.backward-variance"]
    assert finding.repair.startswith("nothing to draw again")


def discriminator():
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 1, 4),
    )


@pytest.mark.parametrize("seed", range(3))
def test_one_operator_is_told_in_plain_words(seed):
    torch.manual_seed(seed)
    model = discriminator()
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.02)
    finding = found(model, 0.03 * torch.randn(16, 1, 16, 16))["scale.backward-variance"]
    assert "1 of the 1" not in finding.repair
    assert finding.repair.startswith("nothing that has to be done for one operator")


def test_what_is_spread_and_has_skips_is_told_in_plain_words():
    spread = Skips(sums=1.0, joined=1.0, alone=1, projected=2, operators=14, fits=1.0, fitting=1)
    told = past_skips(SimpleNamespace(factor=26.7), spread)
    assert told.startswith("nothing that fits: it is spread over 14 operators")
    some = Skips(sums=1.0, joined=1.0, alone=9, projected=0, operators=14, fits=1.0, fitting=2)
    told = past_skips(SimpleNamespace(factor=26.7), some)
    assert told.startswith(
        "put skips with a projection, `x = project(x) + block(x)`, past 7 of the 14 op"
    )
