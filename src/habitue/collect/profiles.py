"""What one column of an unknown file looks like, and which of our fields its name and its values fit."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

import polars as pl

from habitue.collect import values

TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)

_DATES = (
    ("%Y-%m-%d", "ymd"),
    ("%Y/%m/%d", "ymd"),
    ("%Y.%m.%d", "ymd"),
    ("%Y年%m月%d日", "ymd"),
    ("%Y%m%d", "ymd"),
    ("%d/%m/%Y", "dmy"),
    ("%m/%d/%Y", "mdy"),
    ("%d.%m.%Y", "dmy"),
    ("%d-%m-%Y", "dmy"),
    ("%m-%d-%Y", "mdy"),
    ("%d %b %Y", "text"),
    ("%b %d, %Y", "text"),
    ("%d %B %Y", "text"),
    ("%B %d, %Y", "text"),
    ("%d-%b-%Y", "text"),
)
_CLOCKS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %p%I:%M:%S", " %p%I:%M", "T%H:%M:%S", "%H:%M:%S")
_ZONED = (" %z", "%z")
_EPOCH_SPANS = {"seconds": (6e8, 4e9), "milliseconds": (6e11, 4e12), "microseconds": (6e14, 4e15)}  # 1989 to 2096

# A name is compared in small letters without spaces and marks. The first field whose list it is in is taken; what
# stands earlier in a list fits better.
_NAMES: dict[str, tuple[str, ...]] = {
    "event_id": ("eventid", "messageid", "reviewid", "ticketid", "insertid", "评价编号", "工单号", "工单编号"),
    "order_id": (
        *("orderid", "orderno", "ordernumber", "invoiceno", "invoice", "invoiceid", "invoicenumber", "transactionid"),
        *("ordernr", "bestellnummer", "basketid", "receiptid", "receipt", "order", "订单号", "订单编号", "订单id"),
        *("交易号", "单号", "订单", "主订单编号"),
    ),
    "item_id": (
        *("itemid", "productid", "sku", "variantsku", "lineitemsku", "stockcode", "articleid", "productcode", "asin"),
        *(
            "itemcode",
            "movieid",
            "clothingid",
            "itemnumber",
            "artikelnummer",
            "upc",
            "gtin",
            "product",
            "item",
            "code",
            "id",
        ),
        *("商品编号", "商品id", "商品编码", "货号", "产品编号", "商家编码", "外部系统编号"),
    ),
    "title": (
        *("lineitemname", "productname", "itemname", "producttitle", "title", "name", "description", "article"),
        *("itemdescription", "商品名称", "商品标题", "产品名称", "宝贝标题", "标题", "品名", "商品"),
    ),
    "quantity": (
        *("quantity", "qty", "units", "lineitemquantity", "count", "pieces", "menge", "anzahl", "itemquantity"),
        *("数量", "购买数量", "件数", "宝贝数量"),
    ),
    "price": (
        *("unitprice", "lineitemprice", "price", "itemprice", "saleprice", "priceeach", "preis", "einzelpreis", "usd"),
        *("competitorprice", "theirprice", "单价", "价格", "商品单价", "商品价格", "售价"),
    ),
    "value": (
        *("linetotal", "amount", "revenue", "salesvalue", "value", "total", "totalprice", "sales", "betrag", "reading"),
        *("金额", "实付金额", "总价", "小计", "买家实际支付金额", "销售额", "成交金额", "measurement"),
    ),
    "currency": ("currency", "currencycode", "pricecurrency", "ccy", "waehrung", "währung", "币种", "货币"),
    "at": (
        *(
            "createdat",
            "orderdate",
            "invoicedate",
            "timestamp",
            "eventtime",
            "datetime",
            "date",
            "time",
            "purchasedate",
        ),
        *("orderedat", "paidat", "at", "ts", "eventtimestamp", "reviewdate", "reviewedat", "createdtime", "created"),
        *("datum", "bestelldatum", "day", "sentat", "shownat", "observedat", "checkedat", "postedat", "openedat"),
        *("下单时间", "订单创建时间", "创建时间", "付款时间", "订单付款时间", "日期", "时间", "评价时间", "提交时间"),
    ),
    "kind": (
        *("event", "eventname", "eventtype", "action", "activity", "kind", "type", "behavior", "behaviour"),
        *("事件", "行为", "行为类型", "事件类型", "orderstatus", "financialstatus", "status", "订单状态", "状态"),
    ),
    "rating": ("rating", "stars", "score", "overall", "starrating", "ratingvalue", "评分", "星级", "得分"),
    "text": (
        *(
            "reviewtext",
            "reviewbody",
            "review",
            "body",
            "comment",
            "comments",
            "message",
            "text",
            "content",
            "question",
        ),
        *(
            "ticketdescription",
            "feedback",
            "utterance",
            "post",
            "评价内容",
            "评论内容",
            "评论",
            "内容",
            "评价",
            "留言",
            "问题",
        ),
    ),
    "query": ("query", "searchterm", "searchquery", "keyword", "搜索词", "关键词"),
    "session_id": ("sessionid", "session", "visitid", "gasessionid", "会话id"),
    "channel": ("channel", "saleschannel", "medium", "渠道", "来源渠道"),
    "surface": ("surface", "page", "pagelocation", "placement"),
    "position": ("position", "rank", "slot"),
    "campaign_id": ("campaignid", "utmcampaign", "活动id"),
    "what": ("what", "campaign", "campaignname", "experiment", "segment", "活动", "活动名称"),
    "arm": ("arm", "variant", "variation", "treatment", "armid", "creative", "group", "实验组", "分组"),
    "propensity": ("propensity", "propensityscore", "probability"),
    "cost": ("cost", "spendcost", "成本"),
    "outcome": ("outcome", "click", "clicked", "converted", "conversion", "reward", "opened", "点击", "转化"),
    "signal": ("signal", "sensor", "metric", "measure", "信号", "指标"),
    "unit": ("unit", "单位"),
    "path": ("path", "file", "filename", "filepath", "imagefile", "picture", "文件", "文件名", "路径"),
    "owner_id": ("ownerid", "owner"),
    "label": ("label", "intent", "class", "target", "sentiment", "标签", "意图", "类别标签"),
    "category": (
        "category",
        "producttype",
        "googleproductcategory",
        "categoryname",
        "department",
        "类目",
        "分类",
        "商品类目",
    ),
    "brand": ("brand", "vendor", "manufacturer", "品牌"),
    "competitor": ("competitor", "rival", "shop", "retailer", "竞争对手", "竞品店铺"),
    "user": (
        *(
            "userid",
            "customerid",
            "customer",
            "customerno",
            "customernumber",
            "user",
            "clientid",
            "buyerid",
            "memberid",
        ),
        *("kundennummer", "kunde", "custid", "reviewerid", "requesterid", "householdkey", "uid", "买家id", "用户id"),
        *("会员id", "会员号", "客户编号", "买家会员名", "买家昵称", "用户名", "会员名", "客户id", "买家"),
    ),
    "anonymous": ("anonymousid", "visitorid", "userpseudoid", "deviceid", "cookieid", "访客id", "设备id"),
    "email": ("email", "customeremail", "mail", "emailaddress", "邮箱", "电子邮箱"),
    "phone": ("phone", "phonenumber", "mobile", "telephone", "手机", "手机号", "联系手机", "联系电话", "电话"),
}
_ATTRIBUTES = {
    "country": ("country", "billingcountry", "shippingcountry", "land", "国家"),
    "region": ("region", "state", "billingprovince", "shippingprovince", "province", "省份", "省", "收货省份"),
    "city": ("city", "billingcity", "shippingcity", "城市", "市", "收货城市"),
    "gender": ("gender", "sex", "性别"),
    "age": ("age", "ageband", "agegroup", "年龄", "年龄段"),
    "member_level": ("memberlevel", "tier", "loyaltytier", "会员等级", "等级"),
}
_MORE = {
    "headline": ("headline", "summary", "reviewtitle", "subject", "标题", "主题"),
    "status": ("status", "financialstatus", "fulfillmentstatus", "orderstatus", "订单状态", "状态", "工单状态"),
    "priority": ("priority", "urgency", "优先级"),
    "topic": ("topic", "category", "tags", "intent", "label", "问题类型", "类型"),
    "discount": ("discount", "discountcode", "coupon", "优惠券", "优惠金额"),
    "competitor": ("competitor", "rival", "retailer"),
    "platform": ("platform", "network", "site", "平台"),
    "likes": ("likes", "upvotes", "helpful", "点赞数"),
}
_PERSON = re.compile(
    r"name$|^name|address|street|zip|postcode|postal|phone|mobile|mail|birth|passport|idcard|iban|recipient|receiver"
    r"|author|handle|收货人|姓名|地址|电话|手机|邮|身份证|昵称|旺旺|会员名|联系",
    re.IGNORECASE,
)
_KINDS = {
    "Product Viewed": (
        "view",
        "viewed",
        "pv",
        "productview",
        "viewitem",
        "pageview",
        "browse",
        "浏览",
        "查看",
        "点击浏览",
    ),
    "Product Clicked": ("click", "clicked", "selectitem", "点击"),
    "Product Added": ("cart", "addtocart", "addcart", "add", "加购", "加入购物车"),
    "Product Removed": ("removefromcart", "remove", "移出购物车"),
    "Product Added to Wishlist": ("fav", "favorite", "favourite", "wishlist", "addtowishlist", "收藏"),
    "Checkout Started": ("begincheckout", "checkout", "结算"),
    "Order Completed": (
        "buy",
        "purchase",
        "purchased",
        "order",
        "transaction",
        "sale",
        "paid",
        "购买",
        "下单",
        "付款",
        "已付款",
    ),
    "Order Refunded": (
        "refund",
        "refunded",
        "return",
        "returned",
        "partiallyrefunded",
        "退款",
        "退货",
        "已退款",
        "退款成功",
    ),
    "Order Cancelled": ("cancel", "cancelled", "canceled", "取消", "已取消", "交易关闭", "已关闭"),
    "Products Searched": ("search", "搜索"),
    "Product Reviewed": ("review", "rating", "rate", "评价", "评论"),
    "Question Asked": ("ticket", "question", "inquiry", "咨询", "提问"),
    "Product Shared": ("share", "分享"),
}


_EVENT_WORDS = ("event", "eventname", "eventtype", "事件", "行为", "行为类型", "事件类型")


@dataclass
class Profile:
    """What a sample of a column's values tells."""

    name: str
    filled: float  # share of rows with a value
    distinct: float  # distinct values a value
    numeric: bool = False
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    decimal_comma: bool = False
    currencies: tuple[str, ...] = ()
    formats: list[str] = field(default_factory=list)  # of times, the commonest first; "iso" among them
    offsets: float = 0.0  # share of times that carry one
    ambiguous: bool = False  # days and months cannot be told apart
    day_first: bool = False
    length: float = 0.0  # mean letters of a value
    values: list[str] = field(default_factory=list)  # all distinct ones, where they are few
    attribute: str | None = None  # what it says of a customer
    more: str | None = None  # what else it is worth keeping as
    person: bool = False  # may name somebody


def look(column: pl.Series) -> Profile:
    """Look at a sample of one column."""
    there = values.words(column).drop_nulls() if not column.dtype.is_temporal() else column.drop_nulls()
    profile = Profile(column.name, len(there) / max(len(column), 1), there.n_unique() / max(len(there), 1))
    plain = _plain(column.name)
    profile.attribute = next((a for a, names in _ATTRIBUTES.items() if plain in names), None)
    profile.more = next((m for m, names in _MORE.items() if plain in names), None)
    if plain.endswith(("email", "mail", "邮箱")):
        plain = "email"
    profile.person = bool(_PERSON.search(plain)) and not re.search(
        r"product|item|商品|产品|宝贝|campaign|event|file", plain
    )
    if column.dtype.is_temporal():
        profile.formats, profile.offsets = ["iso"], float(getattr(column.dtype, "time_zone", None) is not None)
        return profile
    text = there.cast(pl.String).str.strip_chars()
    profile.length = float(text.str.len_chars().mean() or 0.0)  # type: ignore[arg-type]
    if text.n_unique() <= 40:
        profile.values = sorted(text.unique())
    _look_at_numbers(profile, text)
    _look_at_times(profile, text)
    return profile


def fields(columns: list[Profile]) -> dict[str, Profile]:
    """Choose for each field the column that fits it best by name, values allowing; a column serves one field."""
    found: dict[str, Profile] = {}
    taken: set[int] = set()
    ranked = [
        (names.index(_plain(p.name)), order, name, p)
        for order, (name, names) in enumerate(_NAMES.items())
        for p in columns
        if _plain(p.name) in names and _fits(name, p)
    ]
    for _, _, name, profile in sorted(ranked, key=lambda r: (r[0], r[1])):
        if name not in found and id(profile) not in taken:
            found[name] = profile
            taken.add(id(profile))
    for name, ends in (("email", ("email", "mail", "邮箱")), ("phone", ("phone", "mobile", "手机"))):
        ending = [p for p in columns if _plain(p.name).endswith(ends) and id(p) not in taken]
        if name not in found and len(ending) == 1:
            found[name] = ending[0]
            taken.add(id(ending[0]))
    if all(re.fullmatch(r"\d+", p.name) for p in columns):
        _by_values(found, columns)
    if "at" not in found:  # a name nobody thought of, but values that can only be times
        times = [p for p in columns if p.formats and id(p) not in taken]
        if times:
            found["at"] = max(times, key=lambda p: p.filled)
    if "text" not in found:
        long = [p for p in columns if p.length > 40 and p.distinct > 0.3 and id(p) not in taken and not p.formats]
        if len(long) == 1 and "title" in found:
            found["text"] = long[0]
    return found


def kind_of(value: str) -> str | None:
    """Return the kind of event a word of somebody's file means, or None."""
    if value in _KINDS:
        return value
    plain = _plain(value)
    return next((kind for kind, words in _KINDS.items() if plain in words), None)


def _by_values(found: dict[str, Profile], columns: list[Profile]) -> None:
    """Tell the columns of a file without a header: user, item, rating, seconds, as rating sets are written."""
    times = [p for p in columns if p.formats]
    if times:
        found.setdefault("at", times[0])
    rest = [p for p in columns if p not in times]
    ratings = [p for p in rest if p.numeric and p.distinct < 0.1 and 0 <= p.low and p.high <= 10]
    if ratings:
        found.setdefault("rating", ratings[0])
        rest = [p for p in rest if p is not ratings[0]]
    for name, profile in zip(("user", "item_id"), rest, strict=False):
        found.setdefault(name, profile)


def _fits(name: str, profile: Profile) -> bool:
    """Whether the values of a column can be those of a field."""
    if name == "at":
        return bool(profile.formats)
    if name in ("price", "quantity", "value", "rating", "propensity", "cost", "outcome", "position"):
        return profile.numeric
    if name in ("text", "query", "label", "title"):
        return not profile.numeric
    if name == "currency":
        return bool(profile.currencies)
    if name == "event_id":
        return profile.distinct == 1.0 and profile.filled == 1.0  # of two rows with one id, the second would be lost
    if name == "kind":
        known = sum(kind_of(value) is not None for value in profile.values)
        return profile.name in _EVENT_WORDS or _plain(profile.name) in _EVENT_WORDS or known > 0.5 * len(profile.values)
    return True


def _look_at_numbers(profile: Profile, text: pl.Series) -> None:
    point, bad_point = values.numbers(text)
    comma, bad_comma = values.numbers(text, decimal=",")
    goods = len(text) - int(bad_point.sum()), len(text) - int(bad_comma.sum())
    decimals = int(text.str.contains(r",\d{1,2}(?:\D*)$").sum()), int(text.str.contains(r"\.\d{1,2}(?:\D*)$").sum())
    profile.decimal_comma = goods[1] > goods[0] or (goods[0] == goods[1] and decimals[0] > decimals[1])
    number = comma if profile.decimal_comma else point
    profile.numeric = len(text) > 0 and max(goods) >= 0.8 * len(text)
    if profile.numeric:
        known = number.drop_nulls()
        profile.low, profile.high = float(known.min() or 0), float(known.max() or 0)  # type: ignore[arg-type]
        profile.whole = bool((known == known.floor()).all())
    if profile.length < 30:
        codes = values.currencies(text).drop_nulls()
        if len(codes) > (0.05 if profile.numeric else 0.5) * len(text):
            common = codes.value_counts(sort=True)
            profile.currencies = tuple(sorted(common.filter(pl.col("count") > 0.01 * len(text))[:, 0]))


def _look_at_times(profile: Profile, text: pl.Series) -> None:
    if not len(text) or profile.length > 40:
        return
    number = text.cast(pl.Float64, strict=False)
    for unit, (low, high) in _EPOCH_SPANS.items():
        if bool(number.is_between(low, high).fill_null(False).all()):
            profile.formats, profile.offsets = [unit], 1.0
            return
    if profile.numeric and not (profile.whole and text.str.len_chars().eq(8).all()):
        return
    left, counts = text, dict[str, int]()
    iso = values.moments(text, zone="UTC", time_format=None)
    if iso.null_count() < len(iso):
        counts["iso"] = len(iso) - iso.null_count()
        left = text.filter(iso.is_null())
    while len(left):
        tried = {form: _reads(left, form) for form in _candidates(left)}
        best = max(tried, key=lambda form: tried[form], default=None)
        if best is None or tried[best] < max(1, 0.002 * len(text)):
            break
        rivals = [f for f in tried if tried[f] == tried[best] and f != best]
        swapped = best.replace("%d", "%x").replace("%m", "%d").replace("%x", "%m")
        if swapped in rivals and best != swapped:
            profile.ambiguous = True
            dotted = best if best.startswith("%d") else swapped
            other = swapped if dotted == best else best
            best = dotted if counts.keys() & {"iso"} or not _american(text) else other
            profile.day_first = best.startswith("%d")
        counts[best] = tried[best]
        left = left.filter(_moments(left, best).is_null())
    if sum(counts.values()) >= 0.8 * len(text):
        profile.formats = sorted(counts, key=lambda f: -counts[f])
        profile.offsets = float((text.str.contains(r"\d(?:Z| ?UTC| ?GMT| ?[+-]\d{2}:?\d{2})$")).mean() or 0.0)  # type: ignore[arg-type]


def _american(text: pl.Series) -> bool:
    """Half-day clocks are how America writes times."""
    return bool(text.str.contains(r"(?i)[ap]m").any())


def _candidates(left: pl.Series) -> list[str]:
    """The formats that the letters of a value allow."""
    head = left.head(200)
    marks = {m for m in ("/", ".", "年", ",", "-") if head.str.contains(m, literal=True).any()}
    letters = head.str.contains(r"[A-Za-z]{3}").any()
    zoned = head.str.contains(r"[+-]\d{2}:?\d{2}$").any()
    half = head.str.contains(r"(?i)[ap]m|上午|下午|凌晨|晚上").any()
    forms = []
    for date, kind in _DATES:
        marked = re.findall(r"[/.年,-]", date)
        if (kind == "text") != bool(letters and not half) and kind == "text":
            continue
        if any(m not in marks for m in marked):
            continue
        for clock in _CLOCKS:
            if ("%p" in clock) != bool(half) and "%p" in clock:
                continue
            forms.append(date + clock)
            if zoned and clock:
                forms += [date + clock + z for z in _ZONED]
    return forms


def _reads(text: pl.Series, form: str) -> int:
    found = _moments(text, form)
    sensible = found.dt.year().is_between(1970, 2100).fill_null(False)
    return int(sensible.sum())


def _moments(text: pl.Series, form: str) -> pl.Series:
    return values.moments(text, zone="UTC", time_format=form)


def _plain(name: str) -> str:
    """A name in small letters without spaces, marks and a leading namespace."""
    return re.sub(r"[\s_\-./#()（）:：]+", "", name.rpartition(":")[2].strip().lower())
