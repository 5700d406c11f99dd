"""Six messy files, as real programs export them; everybody and everything in them is made up by this code."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

START = dt.datetime(2023, 3, 1, 9)
CUPS = ("Mug", "Plate", "Bowl, large", 'Frame 10"', "Tea pot", "Spoon", "Lamp", "Vase", "Basket", "Candle")
TASSEN = ("马克杯", "盘子", "大碗", "相框", "茶壶", "勺子", "台灯", "花瓶", "篮子", "蜡烛")


@pytest.fixture(scope="session")
def messy() -> dict[str, Callable[[Path], Path]]:
    """name -> write that file into a folder."""
    return {
        "chinese orders": chinese_orders,
        "shopify orders": shopify_orders,
        "ga4": ga4_events,
        "merchant feed": merchant_feed,
        "reviews": review_sheet,
        "support log": support_log,
    }


def orders(count: int, *, seed: int = 0):
    """Yield (number, moment, customer, [(item, units, cents)]): customers come back at their own pace."""
    dice = random.Random(seed)
    queue = [(dice.random() * 250, c) for c in range(count // 5)]
    for number in range(count):
        queue.sort()
        day, customer = queue.pop(0)
        lines = [
            (dice.randrange(10), dice.randint(1, 3), dice.randint(199, 129_900)) for _ in range(dice.randint(1, 3))
        ]
        yield number, START + dt.timedelta(days=day, seconds=customer), customer, lines
        queue.append((day + dice.expovariate(1 / (60 + customer % 60)) + 0.5, customer))


def chinese_orders(folder: Path) -> Path:
    """A Chinese shop's order list: GB18030, three date formats, thousands, yuan signs, refunds by status."""
    path = folder / "订单列表.csv"
    out = io.StringIO(newline="")
    sheet = csv.writer(out)
    sheet.writerow(
        [
            "订单编号",
            "下单时间",
            "买家会员名",
            "收货人姓名",
            "联系手机",
            "商品编码",
            "商品名称",
            "单价",
            "数量",
            "订单状态",
            "买家留言",
            "省份",
        ]
    )
    for number, at, customer, lines in orders(800):
        written = (f"{at:%Y-%m-%d %H:%M:%S}", f"{at:%Y/%m/%d %H:%M}", f"{at:%Y年%m月%d日 %H:%M}")[number % 3]
        for item, units, cents in lines:
            price = f"￥{cents / 100:,.2f}" if number % 2 else f"{cents / 100:.2f}"
            status = "已退款" if number % 29 == 7 else "已付款"
            note = "请打13812345678" if number % 50 == 1 else ""
            who = (f"tb买家{customer:04d}", "张三", f"138{customer:08d}")
            row = [
                f"2023{number:08d}",
                written,
                *who,
                f"SP{item:03d}",
                TASSEN[item],
                price,
                units,
                status,
                note,
                "浙江省",
            ]
            sheet.writerow(row)
    path.write_bytes(out.getvalue().encode("gb18030"))
    return path


def shopify_orders(folder: Path) -> Path:
    """A Shopify-like order export: one line an item, what an order says only on its first, 300 columns."""
    path = folder / "orders_export.csv"
    names = ["Name", "Email", "Financial Status", "Paid at", "Currency", "Subtotal", "Total", "Created at"]
    names += ["Lineitem quantity", "Lineitem name", "Lineitem price", "Lineitem sku", "Billing Name", "Billing Country"]
    names += ["Order ID", "Notes"] + [f"Note Attributes {i}" for i in range(284)]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(names)
        for number, at, customer, lines in orders(800, seed=1):
            for place, (item, units, cents) in enumerate(lines):
                moment = f"{at:%Y-%m-%d %H:%M:%S} -0500"
                total = f"{sum(u * c for _, u, c in lines) / 100:.2f}"
                status = "refunded" if number % 31 == 3 else "paid"
                told = [status, moment, "USD", total, total] if place == 0 or status == "refunded" else [""] * 5
                row = [f"#{1000 + number}", f"buyer{customer}@example.com", *told, moment]
                row += [
                    units,
                    f"{CUPS[item]} - small",
                    f"{cents / 100:.2f}",
                    f"SKU-{item:02d}",
                    f"Buyer {customer}",
                    "US",
                ]
                row += [f"52{number:08d}", 'He said "leave it\nat the door" 🎁' if number % 40 == 0 else ""] + [
                    ""
                ] * 284
                sheet.writerow(row)
    return path


def ga4_events(folder: Path) -> Path:
    """A GA4 dump as BigQuery exports it: JSONL, lists of parameters, gzip left off."""
    path = folder / "events_20230301.json"
    dice = random.Random(2)

    def param(key: str, **value: object) -> dict[str, object]:
        return {"key": key, "value": {"string_value": None, "int_value": None} | value}

    with path.open("w", encoding="utf-8") as file:
        for number, at, customer, lines in orders(300, seed=2):
            steps = ("view_item", "add_to_cart", "purchase") if number % 2 else ("page_view", "view_item")
            for step, name in enumerate(steps):
                moment = at + dt.timedelta(minutes=step)
                items = [
                    {
                        "item_id": f"SKU-{i:02d}",
                        "item_name": CUPS[i],
                        "price": c / 100,
                        "quantity": u,
                        "item_category": "Home",
                    }
                    for i, u, c in lines
                ]
                record = {
                    "event_date": f"{moment:%Y%m%d}",
                    "event_timestamp": str(int(moment.replace(tzinfo=dt.UTC).timestamp() * 1e6)),
                    "event_name": name,
                    "event_params": [
                        param("ga_session_id", int_value=str(number)),
                        param("page_location", string_value="https://shop.example/mug"),
                        *([param("currency", string_value="EUR")] if name != "page_view" else []),
                    ],
                    "user_pseudo_id": f"{customer}.{dice.randrange(10**6)}" if number % 7 == 0 else f"{customer}.1",
                    "user_id": f"C{customer}" if number % 3 else None,
                    "geo": {"country": "France"},
                    "traffic_source": {"medium": "organic", "name": "(direct)"},
                    "ecommerce": {"transaction_id": f"T{number}"} if name == "purchase" else None,
                    "items": items if name != "page_view" else [],
                }
                file.write(json.dumps(record) + "\n")
    return path


def merchant_feed(folder: Path) -> Path:
    """A Merchant feed in XML: namespaces, entities of XML's own, prices with their currency, repeated images."""
    path = folder / "feed.xml"
    items = "".join(
        f"<item><g:id>SKU-{i:02d}-{size}</g:id><title>{escape(f'{cup} & friends, {size}')}</title>"
        f"<description><![CDATA[<b>{cup}</b> made of clay]]></description><link>https://shop.example/{i}</link>"
        f"<g:image_link>https://shop.example/{i}.jpg</g:image_link><g:price>{10 + i},50 EUR</g:price>"
        f"<g:availability>in_stock</g:availability><g:brand>Töpfer</g:brand>"
        f"<g:product_type>Home &gt; Kitchen</g:product_type>"
        f"<g:additional_image_link>a.jpg</g:additional_image_link><g:additional_image_link>b.jpg</g:additional_image_link>"
        f"<g:shipping><g:country>DE</g:country><g:price>4.90 EUR</g:price></g:shipping></item>\n"
        for i, cup in enumerate(CUPS)
        for size in ("S", "M", "L")
    )
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0">'
        f"<channel><title>Shop</title>{items}</channel></rss>\n",
        encoding="utf-8",
    )
    return path


def review_sheet(folder: Path) -> Path:
    """A sheet of reviews: Excel with real dates, stars, a line above the header that is empty, an error cell."""
    dice = random.Random(3)
    words = ("Lovely colour", "Broke after a day, call me on +44 20 7946 0958", "OK for the price", "很好看，下次还买")
    rows = [["Review date", "Customer ID", "SKU", "Product name", "Stars", "Review text", "Reply"]]
    for number, at, customer, lines in orders(200, seed=4):
        item = lines[0][0]
        rows.append(
            [
                at,
                f"C{customer}",
                f"SKU-{item:02d}",
                CUPS[item],
                dice.randint(1, 5),
                f"No {number}. {dice.choice(words)}",
                None,
            ]
        )
    path = folder / "reviews.xlsx"
    workbook(path, [[], *rows])
    return path


def support_log(folder: Path) -> Path:
    """A support log: UTF-16 as Excel saves "Unicode text", tabs, line breaks in quotes, half-day clocks, no product."""
    path = folder / "tickets.txt"
    out = io.StringIO(newline="")
    sheet = csv.writer(out, delimiter="\t")
    sheet.writerow(["Ticket ID", "Created", "Requester email", "Channel", "Priority", "Subject", "Message"])
    for number, at, customer, _ in orders(150, seed=5):
        message = f"Hello,\nmy parcel {number} has not come.\nWrite to me: buyer{customer}@example.com or 138 1234 5678"
        row = [
            f"TK-{number}",
            f"{at:%m/%d/%Y %I:%M %p}",
            f"buyer{customer}@example.com",
            "email",
            "high",
            "Parcel",
            message,
        ]
        sheet.writerow(row)
    path.write_bytes(out.getvalue().encode("utf-16"))
    return path


def workbook(path: Path, rows: list[list[object]]) -> None:
    """Write a small .xlsx by hand: shared texts, numbers, dates as numbers of style 1."""
    texts: dict[str, int] = {}
    sheet = []
    for number, row in enumerate(rows, start=1):
        cells = []
        for column, value in enumerate(row):
            where = f"{chr(65 + column)}{number}"
            if isinstance(value, dt.datetime):
                days = (value - dt.datetime(1899, 12, 30)) / dt.timedelta(days=1)
                cells.append(f'<c r="{where}" s="1"><v>{days:.10f}</v></c>')
            elif isinstance(value, int | float):
                cells.append(f'<c r="{where}"><v>{value}</v></c>')
            elif value is not None:
                cells.append(f'<c r="{where}" t="s"><v>{texts.setdefault(str(value), len(texts))}</v></c>')
        sheet.append(f'<row r="{number}">{"".join(cells)}</row>')
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    shared = "".join(f"<si><t>{escape(text)}</t></si>" for text in texts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook {main} xmlns:r="{relation}"><sheets><sheet name="Reviews" sheetId="1" r:id="rId1"/></sheets>'
            "</workbook>",
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Id="rId1" Type="{relation}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/styles.xml",
            f'<styleSheet {main}><numFmts><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd hh:mm"/></numFmts>'
            '<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/></cellXfs></styleSheet>',
        )
        archive.writestr("xl/sharedStrings.xml", f"<sst {main}>{shared}</sst>")
        archive.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {main}><sheetData>{''.join(sheet)}</sheetData></worksheet>"
        )
