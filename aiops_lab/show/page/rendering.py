"""How does what was found become HTML? Templates with an environment of their own, so that neither
an application's templates nor its settings change what is escaped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from flask import Response, request, url_for
from markupsafe import Markup

from aiops_lab.numerics import to_utc
from aiops_lab.results import iso
from aiops_lab.show.page.answer import cause_sentence, clip

HERE = Path(__file__).parent

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

IN_SECONDS_MS = 10_000.0  # durations from here on are shown in seconds


def milliseconds(value: float | None) -> str:
    """Return a duration in ms with its unit; a dash for none."""
    if value is None or pd.isna(value):
        return "–"
    if abs(value) >= IN_SECONDS_MS:
        return f"{value / 1e3:,.1f} s"
    if abs(value) < 100:
        return f"{value:,.1f} ms"
    return f"{value:,.0f} ms"


def percent_text(share: float | None) -> str:
    """Return a share in percent; small ones with a digit more."""
    if share is None or pd.isna(share):
        return "–"
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def moment(time: pd.Timestamp | None) -> Markup:
    """Return a time in UTC, which the script of the page shows in the reader's zone as well."""
    if time is None:
        return Markup("–")
    text = f"{time:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}">{}</time>').format(iso(time), text)


def later(time: str) -> Markup:
    """Return a time in ISO 8601 as `moment` does."""
    return moment(to_utc(pd.Timestamp(time)))


def apart(time: str, earlier: str) -> str:
    """Return how far two times in ISO 8601 are apart, in s or min."""
    seconds = (pd.Timestamp(time) - pd.Timestamp(earlier)).total_seconds()
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def path_of(route: str, /, **values: Any) -> str:
    """Return the path of a view of the page, or, with ``json.`` before it, of the interface."""
    page = request.blueprint or ""
    api = page.rpartition(".")[0]
    is_json = route.startswith("json.")
    owner = api if is_json else page
    return url_for(f"{owner}.{route.removeprefix('json.')}", **values)


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ms": milliseconds,
        "percent": percent_text,
        "moment": moment,
        "later": later,
        "apart": apart,
        "clip": clip,
        "cause_line": cause_sentence,
    }
    made.globals |= {"path": path_of}
    return made


ENVIRONMENT = _environment()


def render(template: str, code: int = 200, /, **values: Any) -> Response:
    """Return the answer that shows a template, with its status code."""
    text = ENVIRONMENT.get_template(template).render(**values)
    page = text.encode("utf-8", "replace")  # half of a pair of surrogates is no character
    return Response(page, code, HEADERS, content_type="text/html; charset=utf-8")


def refusal(status: int, title: str, text: str) -> Response:
    """Return the page that says why something was not done."""
    return render("refused.html", status, title=title, text=text, place="")
