"""What the site has beside the pages: the reference of commands, and the files of the repository that pages link to.

mkdocs calls these functions. Links to files beside `docs/` are written as they work in the repository; for the site the
files are copied, so that it can be read without the repository and without a network.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

COMMANDS = "reference/commands.md"
_ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")
_COPIES = "repository"  # their folder in the site


def commands() -> str:
    """Return the page that describes every command and option, as `--help` does."""
    from sparsify.cli import app

    text = app.generate_docs(output_format="markdown")
    text = re.sub(r"^# sparsify$", "# Commands", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"## Table of Contents\n.*?(?=\n\*\*)", "", text, count=1, flags=re.DOTALL)  # the site shows one
    return text.replace("```console\n", "```text\n")  # how they are used, not what to run


def outside(text: str, page: str) -> dict[str, str]:
    """Return the links of a page that leave `docs/`: as they are written → path from the root of the repository."""
    paths = {link: normpath(join("docs", dirname(page), link)) for link in _LINK.findall(text)}
    return {link: path for link, path in paths.items() if not path.startswith("docs/")}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference of commands and what pages link to."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, COMMANDS, content=commands()))
    pages = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for path in sorted({path for uri, text in pages.items() for path in outside(text, uri).values()}):
        files.append(File.generated(config, _copy(path), abs_src_path=str(_ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links that leave `docs/` to the copies."""
    uri = page.file.src_uri
    found = outside(markdown, uri)
    return _LINK.sub(
        lambda link: relpath(_copy(found[link[0]]), dirname(uri)) if link[0] in found else link[0], markdown
    )


def _copy(path: str) -> str:
    """Return where a file lies in the site; what is not a page of the site is shown as text."""
    return f"{_COPIES}/{path}" + ".txt" * path.endswith((".md", ".py", ".yaml"))
