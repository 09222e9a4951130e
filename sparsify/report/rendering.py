"""Filling in the templates of pages."""

from __future__ import annotations

import re
from typing import Any

import jinja2

from sparsify.report.quantities import change, count, share, size, time

__all__ = ["render"]


def render(template: str, **content: Any) -> str:
    """Fill in a template of `report/templates`; everything in `content` is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sparsify.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, size=size, share=share, time=time, change=change, parts=_parts)
    return environment.get_template(template).render(**content)


def _parts(name: str) -> list[str]:
    """Cut a name behind its dots and slashes, where a browser may break it."""
    return re.findall(r"[^./]*[./]|[^./]+", name)
