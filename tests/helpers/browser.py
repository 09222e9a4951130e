"""A headless browser, for pages: Debian's Chromium or what SPARSIFY_CHROMIUM names."""

import contextlib
import os
import shutil

import pytest


def chromium():
    """Return where the browser is; the test is skipped where there is none."""
    found = os.environ.get("SPARSIFY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in SPARSIFY_CHROMIUM")
    return found


@contextlib.contextmanager
def browser():
    """Start the browser; it has no network, so that a page that loads something fails."""
    from playwright.sync_api import sync_playwright

    executable = chromium()
    with sync_playwright() as playwright:
        # As root Chromium starts without its sandbox only; the pages are our own.
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield started
        finally:
            started.close()


@contextlib.contextmanager
def opened(started, path, width=1400, height=1000, **context):
    """Open a page; what its console said and what failed to load are errors at the end."""
    made = started.new_context(viewport={"width": width, "height": height}, offline=True, **context)
    page = made.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    page.goto(path.as_uri())
    try:
        yield page
    finally:
        made.close()
    assert said == []
