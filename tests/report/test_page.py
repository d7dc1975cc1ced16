"""The page: one file, everything escaped, nothing from elsewhere."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from zlib import compress, crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.errors import BadInput
from fieldmark.report.page import (
    Chart,
    Figure,
    Gallery,
    Legend,
    Measured,
    Notice,
    Page,
    Section,
    Series,
    Table,
    Text,
    render,
    write_page,
)

HOSTILE = "<script>alert('x')</script> \" onerror=\"x & <b>"
VOID = {"meta", "img", "rect", "line", "polyline", "circle"}


def tiny_png(width: int = 3, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    pixels = compress(b"".join(b"\0" + bytes(width) for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def full_page(text: str) -> Page:
    blocks = (
        Text(f"{text}\n\nsecond"),
        Notice(text),
        Table((text, "b"), ((text, 0.5), (text, Measured(0.8, 0.7, 0.9)), (text, None)), note=text),
        Figure(tiny_png(), text, text),
        Gallery((Figure(tiny_png(), text), Figure(tiny_png(), scale="smooth")), 2),
        Legend(((text, (1, 2, 3)),)),
        Chart((Series(text, ((0, 1.0), (1, None), (2, 3.0))),), text, text, text),
    )
    return Page(text, (Section(text, blocks), Section("two", ())), subtitle=text, footer=text)


def test_hostile_names_stay_text_in_every_block():
    reader = read(render(full_page(HOSTILE)))
    assert not {"script", "b", "link", "iframe", "object"} & set(reader.tags)
    assert not [a for a in reader.attributes if a[1].startswith("on")]
    assert reader.text.count(HOSTILE) >= 14


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40))
def test_any_text_comes_back_as_written(text):
    reader = read(render(Page("t", (Section("s", (Table(("name",), ((text,),)),)),))))
    assert text in reader.text


def test_a_name_that_is_not_utf8_is_still_written(tmp_path):
    name = b"cell\xff.png".decode("utf-8", "surrogateescape")
    write_page(tmp_path / "r.html", Page(name, ()))
    assert "cell\\udcff.png" in (tmp_path / "r.html").read_text("utf-8")


def test_nothing_comes_from_elsewhere():
    html = render(full_page("x"))
    for tag, name, value in read(html).attributes:
        if name in {"src", "href", "action", "data", "srcset", "poster"}:
            assert value.startswith(("data:image/png;base64,", "#s")), (tag, name, value)
        assert name != "style"
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_this_style_and_no_other():
    html = render(full_page("x"))
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    policy = dict(
        part.split(" ", 1)
        for part in next(value for _, _, value in read(html).attributes if "default-src" in value).split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
    assert "script-src" not in policy


def test_a_figure_carries_its_bytes_and_size():
    png = tiny_png(5, 7)
    html = render(Page("t", (Section("s", (Figure(png, "cap"),)),)))
    image = {name: value for tag, name, value in read(html).attributes if tag == "img"}
    assert b64decode(image["src"].partition(",")[2]) == png
    assert (image["width"], image["height"], image["alt"]) == ("5", "7", "cap")


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, "\u2013"),
        (float("nan"), "\u2013"),
        (0.98765, "0.988"),
        (0.00012345, "0.000123"),
        (-0.5, "-0.500"),
        (12345.6, "12,346"),
        (1234567, "1,234,567"),
        (Measured(None), "\u2013"),
        (Measured(0.5, 0.25, 0.75), "0.5000.250\u2009\u2013\u20090.750"),
        ("a", "a"),
    ],
)
def test_cells(cell, shown):
    html = render(Page("t", (Section("s", (Table(("a", "b"), (("row", cell),)),)),)))
    cells = re.search(r"<td[^>]*>(.*?)</td>", html)[1]
    assert read(cells).text == shown


def test_numbers_stand_right_and_words_left():
    html = render(Page("t", (Section("s", (Table(("a", "b", "c"), (("x", 1, "y"), ("x", None, None))),)),)))
    assert html.count('<td class="number">') == 2
    assert html.count("<td>") == 2


def test_wrong_blocks_are_refused():
    with pytest.raises(BadInput, match=r"2 cells.*1 columns"):
        Table(("a",), (("x", "y"),))
    with pytest.raises(BadInput, match="'cap' is not a PNG"):
        Figure(b"GIF89a", "cap")
    with pytest.raises(BadInput, match="1 to 12"):
        Gallery((), 13)


def test_an_empty_page_and_an_empty_chart():
    read(render(Page("t", ())))
    nothing = Chart((Series("loss", ((1, None), (2, float("nan")))),), "epoch", "loss")
    assert "no point" in render(Page("t", (Section("s", (nothing,)),)))


def test_write_page_replaces_the_file(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    page = full_page("ü")
    write_page(path, page)
    assert path.read_text("utf-8") == render(page)
    assert list(tmp_path.iterdir()) == [path]
