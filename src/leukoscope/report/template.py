from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from leukoscope.common.files import whole_file
from leukoscope.common.runs import log

RESEARCH_USE = "For research use only: no medical device, not validated for diagnosis or for decisions about patients."


def environment(package: str) -> Environment:
    """How the templates of ``package`` are filled: what is said is escaped, and every word asked for must be there."""
    found = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["thousands"] = lambda value: f"{value:,}"
    return found


def write_page(path: Path, template: str, /, **words: Any) -> Path:
    """Write the page that a template of ``report/templates`` makes of ``words``, whole or not at all."""
    filled = environment("leukoscope.report").get_template(template).render(research_use=RESEARCH_USE, **words)
    with whole_file(path) as partial:
        partial.write_text(filled, encoding="utf-8")
    return path


def write_run_page(run: Path, template: str, /, **words: Any) -> Path:
    """Write the page of a run folder, ``report.html``, and say so in the log; returns its path."""
    path = write_page(run / "report.html", template, **words)
    log.info("report: %s (%.1f MB)", path, path.stat().st_size / 1e6)
    return path
