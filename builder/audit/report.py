"""What a log says, as one page: HTML that needs no script and nothing from elsewhere; the same log, the same bytes."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import jinja2

from builder.audit.picture import LEFT, RIGHT, WIDTH, panels
from builder.audit.timeline import LEGEND, Shown, duration_text, sentence, time_text
from builder.audit.verify import Review

_TEMPLATES = Path(__file__).parent / "templates"


def render_report(lines: Sequence[Shown], review: Review | None, *, directory: str) -> str:
    """review: None says on the page that nothing was verified."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_TEMPLATES / "report.css").read_text()
    drawn, left_out = panels(lines)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        directory=directory,
        review=review,
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        panels=drawn,
        left_out=left_out,
        left=LEFT,
        right=RIGHT,
        width=WIDTH,
        boots=[(boot, list(rows)) for boot, rows in groupby(lines, key=lambda shown: shown.entry.boot)],
        count=len(lines),
        legend=LEGEND,
        sentence=sentence,
        time_text=time_text,
        duration_text=duration_text,
    )
