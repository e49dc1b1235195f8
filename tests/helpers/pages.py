"""Reads a page as a browser would, and runs one where there is one."""

import html.parser
import pathlib
import shutil
import subprocess

VOID = {"meta", "img", "br", "hr", "link", "input"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Page(html.parser.HTMLParser):
    """A page's tables, pictures and texts; an error where an element is not closed in its place.

    Attributes:
        tables: of each, its rows of texts, the head first.
        images: attributes of each.
        addresses: whatever an attribute would load or lead to.
        texts: all that is shown, by the element it stands in.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.images: list[dict] = []
        self.addresses: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [
            found[k] for k in ("src", "href", "action", "data", "poster") if k in found
        ]
        if tag == "img":
            self.images.append(found)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def browser() -> str | None:
    """The path of a browser without a window; None where none is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def rendered(path: pathlib.Path, script: str, width: int = 1200) -> Page:
    """A page after a browser has loaded it and run a script at its end."""
    text = path.read_text().replace("</body>", f"<script>{script}</script></body>")
    probe = path.with_name(f"probe-{path.name}")
    probe.write_text(text)
    command = (str(browser()), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               f"--window-size={width},900", f"--user-data-dir={path.parent}/profile",
               "--virtual-time-budget=5000", probe.as_uri())  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return Page(run.stdout)
