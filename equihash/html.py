"""HTML pages from jinja templates."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from equihash.files import atomic


def write_html(path: Path, package: str, template: str, **values: object) -> None:
    """Fill in the template of a package, and write it to `path`, atomically; what is not UTF-8 becomes `?`."""
    environment = Environment(
        loader=PackageLoader(package, "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    html = environment.get_template(template).render(**values)
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")
