"""Where standard error is no terminal, long work says now and then how far it is, and short work nothing."""

import io
import time
from pathlib import Path

from assay.cli import main
from assay.cli.lines import Lines

TINY = str(Path(__file__).with_name("tiny.py"))


def test_a_line_names_the_section_and_what_it_does():
    lines = Lines(io.StringIO())
    assert lines.line(12) == "assay: 12 s: at work"
    lines("report", 4, 6, "Units")
    assert lines.line(40.2) == "assay: 40 s: Units, section 5 of 6"
    lines("units", 3, 19, "loss")
    assert lines.line(70) == "assay: 1 min 10 s: Units, section 5 of 6: units 3/19 (loss)"
    lines("report", 5, 6, "Certificate")
    assert lines.line(90) == "assay: 1 min 30 s: Certificate, section 6 of 6"


def test_lines_come_at_intervals_also_while_work_says_nothing():
    stream = io.StringIO()
    with Lines(stream, first=0.05, every=0.1) as lines:
        lines("counting", 1, 8)
        time.sleep(0.6)
    told = stream.getvalue().splitlines()
    assert 2 <= len(told) <= 6
    assert all(line.endswith("counting 1/8") for line in told)
    time.sleep(0.2)
    assert stream.getvalue().splitlines() == told  # none after work has ended


def test_a_closed_stream_stops_no_work():
    stream = io.StringIO()
    stream.close()
    with Lines(stream, first=0.01, every=0.01):
        time.sleep(0.05)


def test_a_short_command_writes_nothing_to_standard_error(capsys):
    assert main(["scale", f"{TINY}:plain"]) in (0, 1)
    assert capsys.readouterr().err == ""
