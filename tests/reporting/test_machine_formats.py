import json
import math
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest
from stand_ins import Answer, Rooms, fact, mlp

from assay.errors import CannotMeasure
from assay.finding import Number
from assay.reporting.report import report
from assay.where import Location

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/result.schema.json").read_text(encoding="utf-8")
)


@pytest.fixture
def rooms(monkeypatch):
    return Rooms(monkeypatch)


@pytest.fixture
def made(rooms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my net.py"
    file.write_text("import torch\n\ny = torch.relu(x)\n")
    here = fact(
        "error",
        where=Location(str(file), 3, "forward"),
        module="encoder.rnn",
        theory="S2",
        repair="`normalize_`",
        measured=Number(math.inf, "1", "measured"),
    )
    elsewhere = fact("warning", where=Location("/usr/lib/x.py", 0))
    rooms.set("scale", Answer("scale", findings=(here, elsewhere, fact("note", "highway.gate"))))
    rooms.set("cost", CannotMeasure("model", 1, "2", "Do it."))
    return report(mlp)


def test_json_is_as_published(made):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    data = json.loads(made.to_json())
    jsonschema.validate(data, SCHEMA)
    assert data["schema"] == SCHEMA["properties"]["schema"]["const"]
    assert data["$schema"] == SCHEMA["$id"]
    assert data["exit_code"] == 3
    assert data["findings"][0]["measured"]["value"] == "inf"
    assert [one["status"] for one in data["sections"]].count("failed") == 1
    assert json.loads(json.dumps(made.to_dict())) == data


def test_the_schema_refuses_what_it_should(made):
    for change in (
        lambda data: data.pop("findings"),
        lambda data: data["findings"][0].update(severity="fatal"),
        lambda data: data["sections"][0].update(result=None),
        lambda data: data["sections"][2].update(reason=""),
        lambda data: data.update(schema=2),
    ):
        data = made.to_dict()
        change(data)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data, SCHEMA)


def test_sarif(made, tmp_path):
    log = json.loads(made.to_sarif())
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "assay"
    assert driver["version"] == made.environment.assay
    rules = [rule["id"] for rule in driver["rules"]]
    assert rules == ["highway.gate", "scale.variance"]
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"]
        assert len(result["partialFingerprints"]["assay/v1"]) == 16
    first, second, third = run["results"]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "my%20net.py", "uriBaseId": "%SRCROOT%"}
    assert unquote(place["artifactLocation"]["uri"]) == "my net.py"
    assert place["region"] == {"startLine": 3, "snippet": {"text": "y = torch.relu(x)"}}
    assert first["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "encoder.rnn"
    assert "Repair:" in first["message"]["text"]
    elsewhere = second["locations"][0]["physicalLocation"]
    assert elsewhere["artifactLocation"] == {"uri": "file:///usr/lib/x.py"}
    assert elsewhere["region"] == {"startLine": 1}  # SARIF counts from one
    assert "locations" not in third


def test_a_failed_section_is_a_notification(made):
    (invocation,) = json.loads(made.to_sarif())["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 3
    (told,) = invocation["toolExecutionNotifications"]
    assert told["descriptor"] == {"id": "cost.failed"}
    assert told["message"]["text"].startswith("Cost: model = 1")


def test_fingerprints_do_not_depend_on_the_line_number(made, tmp_path):
    from assay.reporting.sarif import _fingerprint

    file = tmp_path / "moved.py"
    file.write_text("# a new comment\nimport torch\n\ny = torch.relu(x)\n")
    moved = fact("error", where=Location(str(file), 4, "forward"), module="encoder.rnn")
    assert _fingerprint(moved) == _fingerprint(made.findings[0])
