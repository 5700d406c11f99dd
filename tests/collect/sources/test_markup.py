"""Merchant feeds, web pages and Excel workbooks: what is XML or HTML."""

import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.sources import Limits
from habitue.core.errors import HabitueError, InputError

FEED = (
    '<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>'
    "<item><g:id>A</g:id><title>Tea &amp; cake</title><g:price>15.00 USD</g:price></item>"
    "<item><g:id>B</g:id><title><![CDATA[<b>Mug</b>]]></title></item></channel></rss>"
)
ATOM = (
    '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>S</title>'
    '<entry><g:id>A</g:id><title>Mug</title><link href="https://x.example"/></entry></feed>'
)


def test_a_feed_in_rss(tmp_path, read):
    (tmp_path / "a").write_text(FEED)
    rows = read(tmp_path / "a", ["id", "title", "price"]).rows()
    assert rows == [("A", "Tea & cake", "15.00 USD"), ("B", "<b>Mug</b>", None)]


def test_a_feed_in_atom(tmp_path, read):
    (tmp_path / "a").write_text(ATOM)
    assert read(tmp_path / "a", ["id", "title", "link"]).rows() == [("A", "Mug", "https://x.example")]


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><rss><item><id>&b;</id></item></rss>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><rss><item><id>&a;</id></item></rss>'


@pytest.mark.parametrize("text", [LAUGHS, OUTSIDE], ids=["billion laughs", "a file of the machine"])
def test_entities_are_refused(tmp_path, text, read):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match="the XML declares entities.*grow without end or read other files"):
        read(tmp_path / "a.xml", ["id"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FEED[:-30], "broken or cut off in line 1"),
        (FEED.replace("</item>", "</itm>", 1), "broken or cut off in line 1 .mismatched tag."),
        ("<rss>" + "<a>" * 10_000, "more than 200 XML elements are nested"),
        ("<rss>" + "<item>" * 300, "more than 200 XML elements are nested"),
    ],
)
def test_broken_xml_is_one_sentence(tmp_path, text, words, read):
    (tmp_path / "a").write_text(text)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a", ["id"])


def test_an_element_without_end_stops_in_words(tmp_path, monkeypatch, read):
    monkeypatch.setattr("habitue.collect.sources.markup._ELEMENT", 1_000_000)
    (tmp_path / "a").write_text("<rss><item><id>" + "x" * 2_000_000)
    with pytest.raises(InputError, match="one XML element holds more than 1,000,000 letters"):
        read(tmp_path / "a", ["id"])


@settings(deadline=None)
@given(rest=st.text(max_size=80))
def test_any_markup_is_rows_or_one_sentence(tmp_path_factory, rest, read):
    path = tmp_path_factory.mktemp("xml") / "a"
    for start in ("<rss><item>", "<html><script type='application/ld+json'>"):
        path.write_bytes((start + rest).encode(errors="replace"))
        try:
            read(path, ["id"])
        except HabitueError as error:
            assert "\n" not in str(error)


# Web pages

PRODUCT = {
    "@context": "https://schema.org",
    "@graph": [
        {"@type": "BreadcrumbList"},
        {
            "@type": ["Product", "Thing"],
            "name": "Mug & saucer",
            "sku": "A",
            "brand": {"@type": "Brand", "name": "Potter"},
            "offers": [{"@type": "Offer", "price": "12.50", "priceCurrency": "EUR"}],
            "aggregateRating": {"ratingValue": 4.5, "reviewCount": 12},
        },
    ],
}


def page(*scripts: str) -> str:
    tags = "".join(f'<script type="application/ld+json">{script}</script>' for script in scripts)
    return f"<!DOCTYPE html><html><head>{tags}</head><body><script>var x = 1 < 2</script></body></html>"


def test_products_of_a_page(tmp_path, read):
    second = {"@type": "Product", "productID": "B", "name": "Bowl", "brand": "X", "offers": {"lowPrice": 3}}
    (tmp_path / "a.html").write_text(page(json.dumps(PRODUCT), "no json", json.dumps([second])))
    broken = {}
    wanted = ["id", "name", "brand", "price", "priceCurrency", "aggregateRating.ratingValue"]
    rows = read(tmp_path / "a.html", wanted, broken=broken).rows()
    assert rows == [("A", "Mug & saucer", "Potter", "12.50", "EUR", "4.5"), ("B", "Bowl", "X", "3", None, None)]
    assert broken == {2: "bad_record"}


ANYTHING = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=6) | st.just("Product"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["@graph", "@type", "name", "sku", "brand", "offers", "aggregateRating", "price"]), inner
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(scripts=st.lists(ANYTHING, max_size=3))
def test_any_json_ld_is_products_or_one_sentence(tmp_path_factory, scripts, read):
    path = tmp_path_factory.mktemp("page") / "a.html"
    path.write_text(page(json.dumps(PRODUCT), *map(json.dumps, scripts)), encoding="utf-8")
    try:
        assert "A" in read(path, ["sku"])["sku"].to_list()
    except HabitueError as error:
        assert "\n" not in str(error)


def test_a_page_with_damaged_html_is_one_sentence(tmp_path, read):
    """Python's own parser ends such a page with an assertion."""
    (tmp_path / "a").write_text('<![] html><script type="application/ld+json">{}</script>')
    with pytest.raises(InputError, match=r"the page's HTML is damaged \(.*Save it again"):
        read(tmp_path / "a", ["sku"], reader="pages")


def test_a_page_without_products_is_one_sentence(tmp_path, read):
    (tmp_path / "a.html").write_text("<html><body>Hello</body></html>")
    with pytest.raises(InputError, match="the page has no <script"):
        read(tmp_path / "a.html", ["id"])
    deep = '{"a":' * 10_000 + "1" + "}" * 10_000
    (tmp_path / "a.html").write_text(page(deep))
    broken = {}
    assert read(tmp_path / "a.html", ["id"], broken=broken).is_empty() and broken == {1: "bad_record"}


# Workbooks


def workbook(path, sheet: str, **parts: str) -> None:
    sheets = '<sheets><sheet name="One" r:id="r1"/></sheets>'
    standard = {
        "xl/workbook.xml": f'<workbook xmlns:r="http://x.example/relationships">{sheets}</workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="r1" Target="s.xml"/></Relationships>',
        "xl/s.xml": f"<worksheet><sheetData>{sheet}</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (standard | parts).items():
            archive.writestr(name, content)


HEAD = '<row><c r="A1" t="inlineStr"><is><t>a</t></is></c><c r="C1" t="str"><v>c</v></c></row>'


def test_cells_of_every_kind(tmp_path, read):
    rows = (
        '<row r="2"><c r="A2"><v>0.1</v></c><c r="C2" t="b"><v>1</v></c></row>'
        '<row r="3"><c r="A3"><f>1+1</f><v>2</v></c><c r="C3" t="e"><v>#N/A</v></c></row>'
        '<row r="4"><c r="C4" t="inlineStr"><is><r><t>ri</t></r><r><t>ch</t></r></is></c></row>'
        '<row r="5"><c r="A5"><v>12.300000000000001</v></c></row><row r="6"/><row r="7"><c r="D7"><v>1</v></c></row>'
    )
    workbook(tmp_path / "a.xlsx", HEAD + rows)
    broken, numbers = {}, []
    found = read(tmp_path / "a.xlsx", ["a", "c"], broken=broken, numbers=numbers).rows()
    assert found == [("0.1", "true"), ("2", None), (None, "rich"), ("12.3", None)]
    assert (broken, numbers) == ({6: "too_many_fields"}, [1, 2, 3, 4])


def test_a_title_above_the_sheet_is_passed_by(tmp_path, read):
    def row(*values: str) -> str:
        return "<row>" + "".join(f'<c t="inlineStr"><is><t>{v}</t></is></c>' for v in values) + "</row>"

    table = [row("a", "b", "c", "d"), row("1", "2", "3", "4"), row("5", "6", "7", "8")]
    workbook(tmp_path / "a.xlsx", "".join([row("Orders of March"), "<row/>", row("Exported", "today"), *table]))
    assert read(tmp_path / "a.xlsx", ["a", "d"]).rows() == [("1", "4"), ("5", "8")]


def test_a_formula_is_never_computed(tmp_path, read):
    rows = '<row r="2"><c r="A2"><f>WEBSERVICE("https://x.example")</f></c><c r="C2"><v>1</v></c></row>'
    workbook(tmp_path / "a.xlsx", HEAD + rows)
    assert read(tmp_path / "a.xlsx", ["a", "c"]).rows() == [(None, "1")]


def test_a_sheet_by_its_name(tmp_path, read):
    workbook(tmp_path / "a.xlsx", HEAD + "<row><c><v>1</v></c></row>")
    assert read(tmp_path / "a.xlsx", ["a"], sheet="One").height == 1
    with pytest.raises(InputError, match="there is no sheet 'Onne'.*Did you mean 'One'"):
        read(tmp_path / "a.xlsx", ["a"], sheet="Onne")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"xl/s.xml": LAUGHS}, "declares entities"),
        ({"xl/sharedStrings.xml": LAUGHS}, "declares entities"),
        ({"xl/s.xml": "<worksheet><sheetData><row>"}, "broken or cut off"),
        ({"xl/_rels/workbook.xml.rels": "<Relationships/>"}, "cut off or damaged"),
        ({"xl/workbook.xml": "<workbook/>"}, "cut off or damaged|no sheet"),
    ],
)
def test_a_broken_workbook_is_one_sentence(tmp_path, parts, words, read):
    workbook(tmp_path / "a.xlsx", HEAD, **parts)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.xlsx", ["a"])


def test_a_workbook_that_inflates_without_end(tmp_path, read):
    workbook(tmp_path / "a.xlsx", HEAD + "<row><c><v>1</v></c></row>" * 400_000)
    assert (tmp_path / "a.xlsx").stat().st_size < 200_000
    with pytest.raises(InputError, match="the workbook inflates to more than 1,000,000 bytes"):
        read(tmp_path / "a.xlsx", ["a"], limits=Limits(max_bytes=1_000_000))
    with pytest.raises(InputError, match="more than 100 rows"):
        read(tmp_path / "a.xlsx", ["a"], limits=Limits(max_rows=100))


@settings(deadline=None)
@given(content=st.binary(max_size=60), at=st.integers(0, 2_000))
def test_a_workbook_with_bytes_changed_is_rows_or_one_sentence(tmp_path_factory, content, at, read):
    out = io.BytesIO()
    workbook(out, HEAD + "<row><c><v>1</v></c></row>" * 3)
    packed = bytearray(out.getvalue())
    start = at % len(packed)
    packed[start : start + len(content)] = content
    path = tmp_path_factory.mktemp("xlsx") / "a.xlsx"
    path.write_bytes(packed)
    try:
        read(path, ["a"])
    except HabitueError as error:
        assert "\n" not in str(error)
