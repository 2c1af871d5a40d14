"""How results look: blocks (what is shown) and their renderers (terminal, HTML, SVG)."""
