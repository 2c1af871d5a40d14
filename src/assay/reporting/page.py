"""The page: one HTML file that opens offline, in light and dark, on a telephone and on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from assay.reporting.report import state_of
from assay.view.html import environment
from assay.view.theme import style

if TYPE_CHECKING:
    from assay.reporting.report import Report
    from assay.reporting.sections import Section


def to_page(report: Report) -> str:
    """A whole document. Its policy forbids scripts and every request, so it stays what it is.

    Args:
        report: What was measured.

    Returns:
        HTML.
    """
    template = environment().get_template("page.html.jinja")
    return template.render(**_content(report), style=Markup(style()))


def to_notebook(report: Report) -> str:
    """The same for a notebook: without a document around it, its style scoped.

    Args:
        report: What was measured.

    Returns:
        HTML.
    """
    template = environment().get_template("report.html.jinja")
    css = Markup("<style>{}</style>").format(Markup(style()))
    return f'{css}<div class="assay">{template.render(**_content(report))}</div>'


def _content(report: Report) -> dict[str, Any]:
    numbers = {id(finding): index for index, finding in enumerate(report.findings, 1)}
    return {
        "report": report,
        "sections": [
            _row(section, index, numbers) for index, section in enumerate(report.sections, 1)
        ],
    }


def _row(section: Section, index: int, numbers: dict[int, int]) -> dict[str, Any]:
    """What the template needs to know of a section beside its view."""
    cell, words = state_of(section)
    state = section.worst or {"good": "good", "unknown": "failed"}.get(cell.mark, "none")
    mark = {"error": "✗", "warning": "!", "good": "✓", "failed": "?", "none": "–"}[state]
    found = section.result.findings if section.result else ()
    return {
        "section": section,
        "view": section.view,
        "index": index,
        "state": state,
        "mark": mark,
        "words": words,
        "found": sorted(
            ((numbers[id(f)], f) for f in found if id(f) in numbers), key=lambda pair: pair[0]
        ),
    }
