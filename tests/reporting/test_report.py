import json
import random

import pytest
import torch
from stand_ins import Answer, Rooms, fact, mlp
from torch import nn

from assay import memory as machine
from assay.builder import Builder
from assay.errors import CannotMeasure, UsageError, UserCodeError
from assay.reporting import memory
from assay.reporting.optimizers import optimizer_name
from assay.reporting.report import of_result, report
from assay.reporting.sections import STEPS, Job
from assay.subject import Subject
from assay.view.blocks import View

NAMES = [step.name for step in STEPS]


@pytest.fixture
def rooms(monkeypatch):
    return Rooms(monkeypatch)


def statuses(made):
    return {section.name: section.status for section in made.sections}


def section(made, name):
    return next(one for one in made.sections if one.name == name)


def test_six_sections_in_order(rooms):
    made = report(mlp)
    assert [one.name for one in made.sections] == NAMES
    assert set(statuses(made).values()) == {"measured"}
    assert made.exit_code == 0
    assert made.target == "mlp"
    assert made.sizes == {"b": 2, "d": 3}
    assert made.environment.torch == torch.__version__
    assert made.environment.device == "cpu"
    assert made.verdict == "Nothing found in 6 measured sections."


def test_rooms_are_asked_as_they_expect(rooms):
    def progress(*args, **kwargs):
        pass

    report(mlp, sizes={"d": 5}, delta=0.01, seed=7, progress=progress)
    (subject,) = rooms.calls["scale"][0]
    assert isinstance(subject, Subject)
    assert subject.inputs[0].shape == (2, 5)
    assert rooms.calls["highway"][0][0] is subject
    assert isinstance(rooms.calls["cost"][0][0], Builder)
    (makers, asked), settings = rooms.calls["step"]
    assert list(makers) == ["SGD", "RMSProp"]
    assert asked is subject
    assert settings == {"norm": "parameter", "seed": 7, "progress": progress}
    assert rooms.calls["units"][1]["name"] == "SGD"
    (builder, examples), settings = rooms.calls["certificate"]
    assert isinstance(builder, Builder)
    assert examples is subject.examples
    assert settings == {"delta": 0.01, "seed": 7, "progress": progress}


def test_errors_warnings_and_notes_make_the_exit_code(rooms):
    rooms.set("scale", Answer("scale", findings=(fact("note"),)))
    assert report(mlp).exit_code == 0
    rooms.set("units", Answer("units", findings=(fact("warning"), fact("error"))))
    made = report(mlp)
    assert made.exit_code == 1
    assert [f.severity for f in made.findings] == ["error", "warning", "note"]
    assert made.verdict == "1 error, 1 warning and 1 note in 6 measured sections."
    rooms.set("cost", CannotMeasure("model", 1, "2", "Do it."))
    made = report(mlp)
    assert made.exit_code == 3
    assert made.verdict.endswith("1 of 6 could not be measured: Cost.")


def test_a_failed_section_says_why_and_the_others_appear(rooms):
    rooms.set("highway", CannotMeasure("graph", 3, "a graph", "Turn it on."))
    rooms.set("step", ZeroDivisionError("ours"))
    made = report(mlp)
    assert [name for name, status in statuses(made).items() if status == "failed"] == [
        "highway",
        "step",
    ]
    assert section(made, "highway").reason == "graph = 3: expected a graph. Turn it on."
    assert section(made, "highway").traceback == ""
    broken = section(made, "step")
    assert "please report it" in broken.reason
    assert "ZeroDivisionError: ours" in broken.traceback
    assert section(made, "highway").view.question == STEPS[1].question


def test_a_view_that_fails_is_a_failed_section(rooms):
    class Broken(Answer):
        def view(self) -> View:
            raise RuntimeError("no view")

    rooms.set("scale", Broken("scale"))
    made = report(mlp)
    assert statuses(made)["scale"] == "failed"
    assert section(made, "scale").result is None


def test_the_users_traceback_is_shown_once(rooms):
    def raises(b: int = 2):
        raise KeyError("corpus")

    rooms.set("cost", lambda build, progress: build())  # derives its costs by building, too
    made = report(raises)
    assert set(statuses(made).values()) == {"failed"}
    assert "KeyError: 'corpus'" in section(made, "scale").traceback
    assert 'raise KeyError("corpus")' in section(made, "scale").traceback
    assert [one.traceback for one in made.sections[1:]] == [""] * 5
    assert "shown under Scale" in section(made, "certificate").reason
    assert str(made).count('raise KeyError("corpus")') == 1
    assert "assay/builder.py" not in str(made)


def test_a_forward_that_raises_fails_where_it_is_run(rooms):
    class Net(nn.Module):
        def forward(self, x):
            raise ValueError("shape")

    made = report((Net(), torch.ones(2)))
    assert statuses(made)["step"] == "failed"
    assert "ValueError: shape" in section(made, "step").reason
    assert "raise ValueError" in section(made, "step").traceback
    assert statuses(made)["scale"] == "measured"


def test_outputs_that_are_not_finite_fail_the_step_only(rooms):
    model = nn.Linear(2, 2)
    model.weight.data.fill_(float("nan"))
    made = report((model, torch.ones(1, 2)))
    assert statuses(made)["scale"] == "measured"
    assert "2 of 2 outputs are NaN" in section(made, "step").reason


def test_without_examples_a_certificate_is_not_applicable(rooms):
    made = report((nn.Linear(2, 2), torch.ones(1, 2)))
    assert statuses(made)["certificate"] == "not applicable"
    assert "examples=" in section(made, "certificate").reason
    assert made.exit_code == 0
    assert "certificate" not in rooms.calls


def test_ctrl_c_passes_through(rooms):
    rooms.set("cost", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        report(mlp)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sections": ("scale", "nosuch")}, "nosuch"),
        ({"sections": ()}, "at least one"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.5}, "delta"),
        ({"sizes": {"q": 3}}, "parameter of mlp"),
        ({"sizes": {"d": 0}}, "integer of at least 1"),
        ({"optimizer": "adam"}, "optimizer"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(rooms, settings, expected):
    with pytest.raises(UsageError, match=expected):
        report(mlp, **settings)
    assert not rooms.calls


def test_a_missing_size_is_wrong_usage_not_a_failed_section(rooms):
    def needs(n: int):
        return nn.Linear(n, n), torch.ones(1, n)

    with pytest.raises(UsageError, match="not given"):
        report(needs)
    assert report(needs, sizes={"n": 2}).exit_code == 0


def test_sizes_may_be_keywords(rooms):
    assert report(mlp, d=16, sections=("scale",)).sizes["d"] == 16
    with pytest.raises(UsageError, match="size = 'width': expected a parameter of mlp"):
        report(mlp, width=16)
    with pytest.raises(UsageError, match="once"):
        report(mlp, d=16, sizes={"d": 8})


def test_some_sections_alone(rooms):
    made = report(mlp, sections=["units", "scale"])
    assert [one.name for one in made.sections] == ["scale", "units"]
    assert set(rooms.calls) == {"scale", "units"}


def test_the_optimizer_in_use(rooms):
    given = torch.optim.AdamW
    report(mlp, optimizer=lambda model: given(model.parameters()))
    assert list(rooms.calls["step"][0][0]) == ["AdamW", "SGD", "RMSProp"]
    assert rooms.calls["units"][1]["name"] == "AdamW"

    def rmsprop(model):
        return torch.optim.RMSprop(model.parameters(), alpha=0.9)

    made = report(Subject(nn.Linear(2, 2), torch.ones(1, 2), optimizer=rmsprop))
    assert rooms.calls["step"][0][0]["RMSProp"] is rmsprop
    assert len(rooms.calls["step"][0][0]) == 2
    assert not any("No optimizer" in note for note in section(made, "units").view.notes)
    made = report(mlp)
    assert any("No optimizer was named" in note for note in section(made, "units").view.notes)
    sgd = rooms.calls["units"][0][0]
    assert isinstance(sgd(nn.Linear(2, 2)), torch.optim.SGD)
    assert isinstance(rooms.calls["step"][0][0]["RMSProp"](nn.Linear(2, 2)), torch.optim.RMSprop)


def test_optimizer_names():
    def mine(model):
        return torch.optim.Adam(model.encoder.parameters())

    assert optimizer_name(mine) == "mine"  # it needs its own model, so its class is not known
    own = optimizer_name(lambda m: torch.optim.AdamW(m.head.parameters()), Headed())
    assert own == "AdamW"
    assert optimizer_name(torch.optim.Adam) == "Adam"


def test_random_state_is_as_before_and_sections_do_not_depend_on_each_other(rooms):
    seen = []

    def draws(*args, **kwargs):
        seen.append((random.random(), torch.rand(1).item()))
        return Answer("scale")

    rooms.set("scale", draws)
    rooms.set("units", draws)
    before = torch.get_rng_state(), random.getstate()
    report(mlp, seed=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    report(mlp, seed=3, sections=("units",))
    assert len(set(seen)) == 1
    weights = []
    rooms.set(
        "scale", lambda subject: weights.append(subject.model.weight.clone()) or Answer("scale")
    )
    report(mlp, seed=3)
    report(mlp, seed=3)
    assert torch.equal(*weights)


def test_a_model_too_large_is_refused_before_it_is_built(rooms, monkeypatch):
    def huge(d: int = 10):
        assert d < 1000 or torch.empty(0).is_meta
        return nn.Linear(d, d), torch.ones(1, d)

    monkeypatch.setattr(memory, "available_memory", lambda: 10**6)
    made = report(huge, sizes={"d": 1000})
    assert statuses(made)["cost"] == "measured"
    for name in ("scale", "highway", "step", "certificate"):
        assert "at most 0.001 GB" in section(made, name).reason
        assert "smaller sizes" in section(made, name).reason
    assert report(huge).exit_code == 0


def test_memory_is_known_or_not_asked(monkeypatch):
    assert machine.available_memory() > 2**20
    monkeypatch.setattr("builtins.open", lambda *a, **k: (_ for _ in ()).throw(OSError()))
    assert machine.available_memory() > 2**20
    monkeypatch.delattr(machine.os, "sysconf")
    assert machine.available_memory() is None
    memory.require_memory(Builder(nn.Linear(2, 2)))


def test_builders_that_cannot_run_on_meta_are_let_through():
    def picky(d: int = 2):
        return nn.Linear(d, int(torch.ones(1).sum().item()) + 1)

    memory.require_memory(Builder(picky))


def test_progress_is_told(rooms):
    told = []
    report(
        mlp,
        sections=("scale", "cost"),
        progress=lambda *args, **kw: told.append((*args, *kw.values())),
    )
    assert told[0] == ("report", 0, 2, "Scale")
    assert told[-1] == ("report", 2, 2)


def test_one_section_prints_in_full_and_six_as_a_summary(rooms):
    rooms.set("scale", Answer("scale", findings=(fact("error"),)))
    one, six = report(mlp, sections=("scale",)), report(mlp)
    assert "A convention." in str(one)
    assert "A convention." not in str(six)
    assert "✗ Scale" in str(six)
    assert "✗ error  scale.variance" in str(six)
    assert six.to_text().count("A convention.") == 6
    assert one.to_text() == str(one)
    assert repr(six) == str(six)


def test_of_result_prints_like_a_section():
    made = of_result("cost", "net:build", Answer("cost"))
    assert made.exit_code == 0
    assert str(made).startswith("Cost\n")
    assert json.loads(made.to_json())["sections"][0]["name"] == "cost"


@pytest.mark.parametrize("suffix", ["html", "json", "sarif", "txt"])
def test_saving(rooms, tmp_path, suffix):
    made = report(mlp)
    path = tmp_path / f"report.{suffix}"
    made.save(path)
    text = made.render({"txt": "text"}.get(suffix, suffix))
    assert path.read_text(encoding="utf-8") == text.rstrip("\n") + "\n"


def test_saving_that_fails_leaves_nothing(rooms, tmp_path):
    made = report(mlp)
    with pytest.raises(UsageError, match="suffix"):
        made.save(tmp_path / "report")
    with pytest.raises(UsageError, match="format"):
        made.render("pdf")
    made.save(tmp_path / "report", "json")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_the_subject_is_built_once_and_its_error_kept():
    calls = []

    def build(d: int = 2):
        calls.append(d)
        if len(calls) > 1:  # the first call is on the meta device
            raise RuntimeError("no")
        return nn.Linear(d, d)

    job = Job(Builder(build))
    for _ in range(3):
        with pytest.raises(UserCodeError):
            _ = job.subject
    assert len(calls) == 2


def test_lazy_modules_have_no_size_yet():
    memory.require_memory(Builder(lambda: (nn.LazyLinear(3), torch.ones(2, 4))))


def test_an_exit_in_the_users_code_fails_its_section_only(rooms):
    def leaves(*args, **kwargs):
        raise SystemExit(0)

    rooms.set("scale", leaves)
    made = report(mlp)
    assert statuses(made)["scale"] == "failed"
    assert "your code raised SystemExit: 0" in section(made, "scale").reason
    assert statuses(made)["highway"] == "measured"
    assert made.exit_code == 3


class Headed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.body(x).tanh())


def test_an_optimizer_of_parts_of_the_model_has_no_card_and_says_so():
    def mine(model):
        return torch.optim.AdamW(
            [{"params": model.body.parameters()}, {"params": model.head.parameters(), "lr": 1e-2}]
        )

    made = report(Subject(Headed(), torch.ones(4, 3), optimizer=mine), sections=("units",))
    assert statuses(made)["units"] == "not applicable"
    reason = section(made, "units").reason
    assert "`AdamW` asks for a part of yours (AttributeError: 'Network'" in reason
    assert "assay units" in section(made, "units").reason
    assert made.exit_code == 0


def test_an_optimizer_of_a_numbered_part_has_no_card_and_says_so():
    """`model[1]`: torch says TypeError, of a model that has no such parts."""

    def build():
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
        return Subject(
            model, torch.ones(4, 3), optimizer=lambda m: torch.optim.AdamW(m[1].parameters())
        )

    made = report(build, sections=("units",))
    assert statuses(made)["units"] == "not applicable"
    assert "not subscriptable" in section(made, "units").reason
    assert "run it alone" not in section(made, "units").reason


def test_an_optimizer_that_fails_on_the_model_too_is_a_failure():
    def wrong(model):
        return torch.optim.SGD(model.nosuch.parameters())

    made = report(Subject(Headed(), torch.ones(4, 3), optimizer=wrong), sections=("units",))
    assert statuses(made)["units"] == "failed"
    assert "nosuch" in section(made, "units").reason


def notes_of(made, name):
    return [f.rule for f in section(made, name).result.findings]


def test_that_sgd_depends_on_units_is_told_of_an_optimizer_that_was_named(rooms):
    found = (fact("note", "units.input_scale"), fact("warning", "units.other"))
    rooms.set("units", Answer("units", findings=found))
    assert notes_of(report(mlp), "units") == ["units.other"]
    named = report(mlp, optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1))
    assert notes_of(named, "units") == ["units.input_scale", "units.other"]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (nn.Linear(3, 3).requires_grad_(False), "all of its 2 parameters are frozen"),
        (nn.ReLU(), "it has no parameters"),
    ],
)
def test_where_nothing_is_trained_there_is_no_question_about_steps(rooms, model, why):
    made = report((model, torch.ones(2, 3)))
    for name in ("step", "units"):
        assert section(made, name).status == "not applicable"
        assert why in section(made, name).reason
    assert made.exit_code == 0
    # an optimizer that is named has a card whatever the model is
    named = report((model, torch.ones(2, 3)), optimizer=lambda m: torch.optim.Adam(m.parameters()))
    assert section(named, "units").status == "measured"


def test_where_the_warm_up_runs_away_the_first_steps_are_compared():
    def build():
        model, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), torch.ones(3, 4)
        return model, x, lambda y: -y.pow(4).sum() * 1e4

    made = section(report(build, sections=["step"]), "step")
    assert made.status == "measured"
    assert made.result.warmup == 0
    assert "not finite after" in made.result.remarks[-1]
    assert "lr=0.01" in made.result.remarks[-1]


def test_a_gradient_that_is_not_finite_at_the_start_is_no_matter_of_the_warm_up():
    def build():
        return nn.Linear(4, 1), torch.ones(3, 4), lambda y: (y * 0).sqrt().sum()

    made = section(report(build, sections=["step"]), "step")
    assert made.status != "measured"
    assert "at the given weights" in made.reason


def test_a_cost_without_a_formula_has_no_tick():
    def asked(mask):
        class Chosen(torch.nn.Linear):
            def forward(self, x):
                return super().forward(x[x[:, 0] > 0] if mask else x)

        def build(b: int = 8):
            return Chosen(3, 3), torch.randn(b, 3)

        return report(build, sections=("cost",)).view().blocks[0].rows[0][0].mark

    assert (asked(True), asked(False)) == ("unknown", "good")


def wrong_width():
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(32), nn.Linear(16, 3)), torch.randn(4, 8)


def test_a_model_that_does_not_run_is_told_as_that_once_and_with_its_module():
    made = report(wrong_width)
    assert made.verdict.startswith("The model could not be run.")
    assert made.exit_code == 3
    scale, *others = (s for s in made.sections if s.status == "failed")
    assert "in 1 (BatchNorm1d)" in scale.reason
    assert "running_mean" in scale.traceback
    for other in others:
        assert not other.traceback
        assert other.reason.endswith("Its traceback is shown under Scale.")


def test_a_loss_that_raises_is_not_the_model():
    labels = torch.tensor([0, 6])

    def bad():
        model = nn.Linear(8, 3)
        return model, torch.randn(2, 8), lambda y: nn.functional.cross_entropy(y, labels)

    made = report(bad)
    assert not made.verdict.startswith("The model could not be run")
    (finding,) = section(made, "cost").result.findings
    assert "the loss raises IndexError: Target 6 is out of bounds." in finding.message
    assert not finding.message.endswith("..")


def test_lines_of_a_traceback_are_not_wrapped():
    message = "sizes that do not match, " * 8 + "and so on to the end"

    class Raises(nn.Linear):
        def forward(self, x):
            raise RuntimeError(message)

    text = str(report((Raises(3, 3), torch.ones(2, 3)), sections=("scale",)))
    assert f"\nRuntimeError: {message}" in text
