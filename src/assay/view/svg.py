"""Pictures as inline SVG: `to_svg` draws any picture block, with no script, font or file beside it."""

from __future__ import annotations

from markupsafe import Markup

from assay.view.blocks import Angle, Arcs, Bars, Lines
from assay.view.chart import draw_bars, draw_lines
from assay.view.diagram import draw_angle, draw_arcs

Picture = Lines | Bars | Arcs | Angle

BROAD, NARROW = 720.0, 340.0  # a column of prose; the same on a telephone


def to_svg(picture: Picture, width: float = BROAD, kind: str = "") -> Markup:
    """Draw a picture.

    Text is not scaled with a picture, so a page draws each one twice, for a broad and a narrow column, and
    shows the one that fits.

    Args:
        picture: What to draw.
        width: The column it is drawn for, in pixels.
        kind: A class for the `svg` element.

    Returns:
        One `svg` element, well-formed XML.

    Example:
        >>> drawing = to_svg(Angle((("SGD", 0.0), ("RMSProp", 40.0)), title="First step"))
        >>> drawing[:4], "RMSProp" in drawing
        (Markup('<svg'), True)
    """
    if isinstance(picture, Lines):
        canvas = draw_lines(picture, width)
    elif isinstance(picture, Bars):
        canvas = draw_bars(picture, width)
    elif isinstance(picture, Arcs):
        canvas = draw_arcs(picture, width)
    else:
        canvas = draw_angle(picture, width)
    return canvas.svg(kind)
