"""A page of HTML as a reader sees it, and groups to print that no network has."""

from html.parser import HTMLParser

from sparsify.groups import Group, Member
from sparsify.prunable import Frozen, Prunable

VOID = {"br", "img", "meta", "wbr"}


def group(name, kind="channels", size=8, members=2, note=""):
    held = tuple(Member(f"{name}.{index}", 0, None, None) for index in range(members))
    return Group(name, kind, size, held, False, "", not note, note, 1, axis=None)


def prunable(groups, frozen=(), unknown=None, saving=(1200, 34_000)):
    savings = {item.name: saving for item in groups}
    return Prunable(groups, savings, [Frozen(*item) for item in frozen], 0.9784, 0.9912, unknown or {}, axes=None)


class Page(HTMLParser):
    """The elements of a page, each with its attributes and the text below it; tags must match.

    Attributes:
        elements: tag, attributes and text.
    """

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self._open = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self._open:
            text.append(data)

    def all(self, tag, **attributes):
        """Return attributes and text of the elements with a tag and with words in their attributes."""
        return [
            (held, "".join(text))
            for name, held, text in self.elements
            if name == tag and all(word in (held.get(key) or "").split() for key, word in attributes.items())
        ]
