"""Icons: our own drawings, kept as CSS masks in assets/icons.css, so that they take the text's colour."""

from __future__ import annotations

from dash import html

from app.components.attributes import attributes

ICONS = frozenset(
    """artifacts back check chip clock close collapse comment compare copy download edit expand experiments external
    filter fit flow gauge graph help info jobs logo logout memory moon next operators optimize overview person play
    plus redo reports runs search shield stop sun tag terminal trash undo warning workers""".split()
)


def icon(name: str, size: int = 18) -> html.Span:
    """Return a drawing of `size` pixels. It is decoration: what it stands beside says the same in words.

    Raises KeyError for a name that assets/icons.css does not draw.
    """
    if name not in ICONS:
        raise KeyError(f"no icon {name!r}; there are {', '.join(sorted(ICONS))}")
    return html.Span(
        className=f"hb-icon hb-icon-{name}", style={"--hb-icon-size": f"{size}px"}, **attributes(aria_hidden="true")
    )
