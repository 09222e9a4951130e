"""The pages of the docs as text: fences, commands, links, and the words that must exist elsewhere."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```\s*$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Fence:
    """A block of code: its language, the file that it is called, its text, and the line where it begins."""

    language: str
    title: str
    code: str
    line: int


@dataclass(frozen=True)
class Page:
    """A page of the docs, or the README; `name` is its path from docs/ or the root."""

    name: str
    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def fences(self) -> list[Fence]:
        return [
            Fence(
                found[2],
                title[1] if (title := _TITLE.search(found[3])) else "",
                re.sub(rf"^{found[1]}", "", found[4], flags=re.MULTILINE),
                self.text.count("\n", 0, found.start()) + 1,
            )
            for found in _FENCE.finditer(self.text)
        ]

    @property
    def prose(self) -> str:
        """What is not in fences."""
        return _FENCE.sub("", self.text)

    @property
    def spans(self) -> list[str]:
        """What stands between backticks."""
        return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", self.prose)]

    @property
    def links(self) -> list[str]:
        """Where links and images lead, but those to other machines."""
        return [link for link in re.findall(r"\]\(([^)\s]+)\)", self.prose) if not re.match(r"https?:", link)]

    @property
    def anchors(self) -> set[str]:
        """What `#...` may name: headings as mkdocs and code hosts call them, and names that are given."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        given = {found[1] for heading in headings if (found := re.search(r"\{#(\S+)\}", heading))}
        return given | {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def pages() -> dict[str, Page]:
    """Every page that users read; none where the tests are a copy without the docs."""
    files = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if DOCS.is_dir() else []
    named = [Page(path.relative_to(DOCS if DOCS in path.parents else ROOT).as_posix(), path) for path in files]
    return {page.name: page for page in named}


def commands(code: str) -> Iterator[list[str]]:
    """The commands of a shell block as words; comments are left out, lines that end in a backslash go on."""
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words
