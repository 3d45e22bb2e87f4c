"""Published reports: what a person reads and answers, saved once and never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from analyzer.errors import HotbenchError
from analyzer.identity import content_id
from analyzer.record import dump_json, from_plain, load_json, read_folder, to_plain, write_folder
from app.reports.document import Document
from app.reports.render import plain_figure, render_html, render_markdown

KIND = "report"
HTML, MARKDOWN = "report.html", "report.md"
_DOCUMENT, _FIGURES, _ABOUT = "document.json", "figures.json", "about.json"
_LONGEST_TITLE = 200


@dataclass(frozen=True, slots=True)
class About:
    """Who published what. artifact and artifact_digest: what had been exported of it by then, "" when nothing."""

    title: str
    value: str
    published_by: str
    created: str
    artifact: str = ""
    artifact_digest: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """A published report as it was saved. html_sha256 is of the HTML file; figures are plotly's plain JSON."""

    id: str
    about: About
    document: Document
    figures: Mapping[str, dict[str, Any]]
    html_sha256: str


def checked_title(text: str, otherwise: str) -> str:
    """Return a report's title on one line. Raises HotbenchError for one that is too long."""
    title = " ".join(text.split()) or otherwise
    if len(title) > _LONGEST_TITLE:
        raise HotbenchError(f"the title has {len(title)} characters; {_LONGEST_TITLE} are the most")
    return title


def save_published(folder: Path, about: About, document: Document, figures: Mapping[str, go.Figure]) -> str:
    """Write a report into `folder` as HTML, Markdown and values; return its id, which follows from the content."""
    drawn = {name: plain_figure(figure) for name, figure in figures.items()}
    files = {
        HTML: render_html(document, figures, get_plotlyjs()).encode(),
        MARKDOWN: render_markdown(document).encode(),
        _DOCUMENT: dump_json(to_plain(document)),
        _FIGURES: json.dumps(drawn, sort_keys=True, allow_nan=False).encode(),
        _ABOUT: dump_json(to_plain(about)),
    }
    identity = content_id(KIND, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    write_folder(folder, dict(files), KIND, identity)
    return identity


def load_published(folder: Path) -> Published:
    """Return the report saved in `folder`. Raises RecordError where a file is missing or not as it was published."""
    manifest = read_folder(folder, KIND)
    return Published(
        id=manifest.id,
        about=from_plain(About, load_json(folder / _ABOUT)),
        document=from_plain(Document, load_json(folder / _DOCUMENT)),
        figures=load_json(folder / _FIGURES),
        html_sha256=manifest.files[HTML],
    )
