from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **words: Any) -> str:
    """The page that a template of ``report/templates`` makes of ``words``; each that it asks for must be there."""
    environment = Environment(
        loader=PackageLoader("leukoscope.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda value: f"{value:,}"
    return environment.get_template(template).render(**words)
