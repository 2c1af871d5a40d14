"""Results as HTML: a section by itself, for notebooks, and the template environment of the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from assay.finding import Finding, ranked
from assay.view.blocks import View
from assay.view.canvas import element
from assay.view.pieces import MARKS
from assay.view.prose import clean, is_code, split_code
from assay.view.svg import BROAD, NARROW, Picture, to_svg
from assay.view.text import SEVERITIES, origin
from assay.view.theme import style

_PLACE = re.compile(r"([\w.-]{1,32}\.\w+:\d+)")  # of a longer name the end, with the number


def to_fragment(view: View, findings: Sequence[Finding] = (), *, styled: bool = True) -> str:
    """A section as HTML that can stand in any page; a notebook shows it as the result's own picture.

    Args:
        view: What to show.
        findings: What broke an expectation.
        styled: Whether to put the scoped style sheet in front.

    Returns:
        HTML; everything that comes from the view is escaped.

    Example:
        >>> "&lt;script&gt;" in to_fragment(View("Scale", "", "layer <script>"), styled=False)
        True
    """
    template = environment().get_template("section.html.jinja")
    css = Markup(style()) if styled else ""  # our own file: nothing of the user's in it
    return template.render(view=view, findings=ranked(tuple(findings)), style=css)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates of the package, with autoescape on and undefined names as errors.

    Returns:
        The environment; its filters are `clean`, `prose`, `places`, `kind` and `draw`.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader("assay", "view"), PackageLoader("assay", "reporting")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(clean=clean, prose=prose, places=places, kind=_kind, draw=draw)
    made.tests["runnable"] = is_code
    made.globals.update(
        zip=zip,
        origin=origin,
        marks={name: mark for name, (mark, _) in MARKS.items()},
        severities={name: mark for name, (mark, _) in SEVERITIES.items()},
    )
    return made


def prose(text: object) -> Markup:
    """Escape a text, and set what stands between backticks as code.

    Args:
        text: Anything; its `str` is taken.

    Returns:
        HTML.

    Example:
        >>> prose("set `a<b`")
        Markup('set <code>a&lt;b</code>')
    """
    pieces = (
        element("code", piece) if code else Markup.escape(piece)
        for piece, code in split_code(str(text))
    )
    return Markup("").join(pieces)


def places(text: object) -> Markup:
    """Escape a text of code, and keep together each name of a file with its line, so far as it is short.

    Args:
        text: Anything; its `str` is taken.

    Returns:
        HTML.

    Example:
        >>> places("models/net.py:12")
        Markup('models/<span class="whole">net.py:12</span>')
    """
    pieces = _PLACE.split(clean(text))
    return Markup("").join(
        element("span", piece, class_="whole") if k % 2 else Markup.escape(piece)
        for k, piece in enumerate(pieces)
    )


def draw(picture: Picture) -> Markup:
    """A picture for a broad and for a narrow column; the style sheet shows the one that fits.

    Args:
        picture: What to draw.

    Returns:
        Two `svg` elements.
    """
    sizes = {"broad": BROAD, "narrow": NARROW}
    return Markup("").join(to_svg(picture, width, kind) for kind, width in sizes.items())


def _kind(block: object) -> str:
    return type(block).__name__
