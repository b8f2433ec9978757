"""The HTML report: well formed, self-contained, safe whatever the images hold, and right in a real browser."""

from __future__ import annotations

import html.parser
import re
import shutil
import struct
import subprocess
from pathlib import Path

import msgspec
import pytest

from rehydrator.explain.causes import Cause
from rehydrator.explain.html import render
from rehydrator.explain.html_style import CAUSES
from rehydrator.explain.text import TextOptions
from rehydrator.explain.text import render as render_text
from rehydrator.explain.tree import (
    CauseTotal,
    Change,
    Derived,
    Evidence,
    FieldChange,
    FileChange,
    Note,
    Part,
    Report,
    Side,
    Total,
)
from tests.support.cli import run
from tests.test_explain import shipped

EVIL = "<script>alert('x')</script>\"&\x1b[31m\u202e\n/é"
VOID = {"meta"}


def evil_report(text: str = EVIL) -> Report:
    """A report in which every text that may come from an image is hostile."""
    part = Part(
        name=text, offset=4096, size=8192, filesystem="ext4", bytes=9, blocks=2,
        files=[FileChange("M", text, "file", 3, 4, 5, [f"+{text}"], [f"+{text}", f"-{text}", ""])],
        changes=[Change("unknown", "inode", 30, [text] * 20, [text] * 30, 5, [Derived("checksum-of:inode", 4)])],
        moved_files=1,
    )  # fmt: skip
    return Report(
        verdict=text,
        identical=False,
        a=Side(text, text, [text], 1),
        b=Side(text, text, [text], 2),
        normalised=[text],
        digests=[text],
        container=[FieldChange("qcow2", text, text, text)],
        disk=[text],
        first=text,
        parts=[part],
        causes=[CauseTotal("unknown", 5, [Derived("checksum-of:inode", 4)])],
        evidence=[Evidence(1, 400, "unknown", text, "00" * 256, "3c" * 256, text)],
        evidence_left_out=3,
        preparation=[text],
        health=[Note(text, text, 5, text)],
        checked=[text],
        total=Total(9, 0, 4),
    )


class Checker(html.parser.HTMLParser):
    """Follows open elements and remembers what a document refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID and tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(document: str) -> Checker:
    checker = Checker()
    checker.feed(document)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture(scope="session")
def page(release_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two platforms of the real release."""
    images = (shipped(release_dir, "metal"), shipped(release_dir, "openstack"))
    result = run("explain", *images, "-p", "--hex", "--extents", "--output", "html")
    assert (result.code, result.err) == (1, "")
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_bytes(result.out)
    return path


def test_everything_is_escaped() -> None:
    checker = parsed(render(evil_report()))
    assert {"script", "img", "iframe", "link", "object", "embed", "form"} & set(checker.seen) == set()
    whole = "".join(checker.text)
    assert "\x1b" not in whole
    assert "\u202e" not in whole
    assert whole.count("<script>alert('x')</script>") > 20
    assert not any(name.startswith("on") or name in ("href", "src") for name, _ in checker.attributes)


def test_text_shows_no_control_characters() -> None:
    options = TextOptions(hex=True, extents=True)
    lines = [*render_text(evil_report(), options), *render_text(evil_report(), TextOptions(stat=True))]
    assert lines
    assert all(char.isprintable() for line in lines for char in line)


def test_self_contained(page: Path) -> None:
    document = page.read_text()
    checker = parsed(document)
    assert not any(name in ("href", "src") for name, _ in checker.attributes)
    assert re.findall(r"url\(|@import|https?://", document) == []
    assert "default-src 'none'" in document


def test_palette_is_complete() -> None:
    assert set(CAUSES) == {cause.value for cause in Cause}


def test_identical_disks() -> None:
    empty = msgspec.structs.replace(
        evil_report("same"), identical=True, parts=[], causes=[], evidence=[], health=[], total=Total(0, 0, 0)
    )
    assert "0 of 0 differing bytes explained" in render(empty)
    assert parsed(render(empty)).open == []


def chromium(*arguments: str, profile: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("missing: chromium, in package chromium")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
    ]  # fmt: skip
    return subprocess.run([program, *options, *arguments], capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.oracle
def test_dom_in_a_browser(page: Path, tmp_path: Path) -> None:
    """The browser builds the tree that was meant: nothing of it is repaired or dropped."""
    dom = chromium("--dump-dom", page.as_uri(), profile=tmp_path).stdout
    ours, theirs = parsed(page.read_text()), parsed(dom)
    kept = [tag for tag in theirs.seen if tag != "tbody"]
    assert kept == ours.seen
    assert theirs.seen.count("details") >= 4
    assert re.search(r"<b>([\d,]+) of \1 differing bytes explained</b>", dom)


@pytest.mark.oracle
def test_hostile_names_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "evil.html"
    page.write_text(render(evil_report()))
    dom = chromium("--dump-dom", page.as_uri(), profile=tmp_path / "profile").stdout
    assert "<script" not in dom


@pytest.mark.oracle
def test_screenshot(page: Path, tmp_path: Path) -> None:
    """It is drawn: a picture of the asked-for size with more than one colour."""
    picture = tmp_path / "report.png"
    chromium("--window-size=1000,1400", f"--screenshot={picture}", page.as_uri(), profile=tmp_path / "profile")
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1000, 1400)
    assert len(data) > 20_000
