"""Colours and type of pages and notebooks: one style sheet, two palettes."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

# Text colours keep a contrast of at least 4.5 : 1 on their paper; the six line colours differ in lightness
# as well as in hue, for readers who do not see red and green apart.
LIGHT = {
    "paper": "#ffffff",
    "panel": "#f6f5f1",
    "ink": "#1f1e1c",
    "muted": "#686560",
    "rule": "#e3e0d9",
    "shade": "#cfccc4",
    "good": "#23744a",
    "bad": "#b0281e",
    "warn": "#925800",
    "c1": "#235a8c",
    "c2": "#b4521a",
    "c3": "#23744a",
    "c4": "#7a4a96",
    "c5": "#8a6a10",
    "c6": "#56606b",
}
DARK = {
    "paper": "#15171a",
    "panel": "#1d2024",
    "ink": "#e7e4de",
    "muted": "#a09c94",
    "rule": "#31353b",
    "shade": "#000000",
    "good": "#79c996",
    "bad": "#f28b80",
    "warn": "#e5b45c",
    "c1": "#84b6e2",
    "c2": "#ea9f6b",
    "c3": "#79c996",
    "c4": "#c6a0dc",
    "c5": "#dcc070",
    "c6": "#a9b1bb",
}


def _declare(palette: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


@lru_cache(maxsize=1)
def style() -> str:
    """The style sheet, scoped to `.assay`; a notebook's own theme goes before the system's.

    Returns:
        CSS.
    """
    light, dark = _declare(LIGHT), _declare(DARK)
    rules = (files("assay.view") / "style.css").read_text(encoding="utf-8")
    # Paper stays white; JupyterLab and VS Code say on an outer element which theme is on.
    return (
        f".assay{{color-scheme:light dark;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{.assay{{{dark}}}}}"
        f"[data-jp-theme-light=true] .assay,.vscode-light .assay{{color-scheme:light;{light}}}"
        f"[data-jp-theme-light=false] .assay,.vscode-dark .assay{{color-scheme:dark;{dark}}}\n"
        f"{rules}"
    )
