"""The templates of this package."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_template(template: str, view: dict[str, Any]) -> str:
    """A template of this package, filled in; a missing variable is an error."""
    environment = Environment(
        loader=PackageLoader("leadline.report"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=False,
    )
    return environment.get_template(template).render(view)
