"""A Document as one HTML file that works offline, or as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.figures.theme import template
from app.reports.document import Document
from app.units import moment, printable

_TEMPLATES = Path(__file__).parent


def render_html(document: Document, figures: Mapping[str, go.Figure], plotly_js: str) -> str:
    """Return the whole page. `plotly_js` is the text of plotly's own script, put into the page as it is."""
    styles = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    data = {
        "figures": {name: plain_figure(figure) for name, figure in figures.items()},
        "templates": {"light": template(False).to_plotly_json(), "dark": template(True).to_plotly_json()},
    }
    return _environment(html=True).get_template("report.html").render(
        document=document,
        styles=Markup(styles),
        script=Markup(script),
        plotly_js=Markup(plotly_js),
        data=Markup(_script_safe(data)),
        figures=set(figures),
    )  # fmt: skip


def render_markdown(document: Document) -> str:
    """Return the same facts as Markdown tables."""
    text = _environment(html=False).get_template("report.md").render(document=document)
    return text.rstrip("\n") + "\n"


def plain_figure(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as plain JSON without a template: whoever shows it chooses that by the reader's scheme."""
    data: dict[str, Any] = json.loads(figure.to_json(validate=False))
    data["layout"].pop("template", None)
    return data


def _script_safe(data: object) -> str:
    """Return JSON that cannot end the script element around it: names in it come from models and files."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _environment(html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = printable
    environment.filters["cell"] = _cell
    environment.filters["moment"] = moment
    return environment


def _cell(text: str) -> str:
    """Return text that Markdown shows literally, in a table's cell as in a line."""
    escaped = "".join(
        f"\\{character}" if character in "\\`*_{}[]<>#|!~" else character for character in printable(text)
    )
    return escaped.strip()
