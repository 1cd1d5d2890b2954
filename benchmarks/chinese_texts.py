"""Chinese texts with personal data in them, made by a seeded generator that knows where it is.

Numbers have right check digits, by formulas of their own here; beside them stand numbers that look
like them and are something else.
"""

import random
from collections.abc import Callable
from datetime import date, timedelta

from span_scores import Span

REGIONS = ("110105", "310115", "440304", "510104", "330106", "420111", "610113", "350203")
LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
FRAMES = {
    "cn_resident_id": (
        *(
            "我叫{name}，身份证号{}，请帮我查一下社保。",
            "身份证：{}\n姓名：{name}",
            "{name}（{}）已经到岗。",
        ),
        *(
            "请核对{name}的证件号码{}是否正确",
            "公民身份号码为{}，住在{city}。",
            "他给的号是{}对吧？",
        ),
    ),
    "phone": (
        *("我的手机号是{}，有事打给我", "联系{name}：{}", "快递到了请打{}，谢谢！", "{name}{}收"),
        *("电话{}没人接。", "请回拨{}找{name}", "微信同号{}", "把验证码发到{}就行"),
    ),
    "card": (
        *("请转到银行卡{}，户名{name}。", "卡号{}，{city}支行", "我的工资卡是{}（{name}）"),
        *("信用卡{}被盗刷了", "收款账号：{}，开户行在{city}。"),
    ),
    "cn_company_id": (
        *(
            "统一社会信用代码：{}",
            "{city}某某科技有限公司（{}）中标。",
            "开票信息：税号{}，抬头见附件",
        ),
        *("营业执照上的代码是{}，请备案",),
    ),
    "email": ("邮箱是{}，请查收。", "把合同发到{}给{name}", "请联系{}获取资料"),
}
DECOYS = (
    *("订单号{20}已发货。", "快递单号{13}，明天到{city}。", "本次共{4}人参加，预算{6}元。"),
    *(
        "时间戳{13}，耗时{3}毫秒",
        "第{2}章第{1}节",
        "合同编号{12}，流水号{18}",
        "股票代码{6}涨了{2}%",
    ),
    *("版本{1}.{1}.{2}已上线", "活动从2024年3月5日到2024年6月1日", "面积{3}平方米，总价{7}元"),
)
NAMES = ("张伟", "王芳", "李娜", "刘洋", "陈静", "欧阳雪")
CITIES = ("北京", "上海", "深圳", "成都", "杭州")
WIDE = {ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"}


def chinese_texts(count: int, seed: int) -> list[tuple[str, list[Span]]]:
    """Texts and what is in them: in three of four one to three numbers, in the others none."""
    dice = random.Random(seed)
    return [_text(dice) for _ in range(count)]


def _text(dice: random.Random) -> tuple[str, list[Span]]:
    text, spans = "", []
    for _ in range(dice.randint(1, 3) if dice.random() < 0.75 else 0):
        kind = dice.choice(list(FRAMES))
        before, _, after = _filled(dice, dice.choice(FRAMES[kind])).partition("{}")
        value = MAKERS[kind](dice)
        start = len(text) + len(before)
        spans.append((kind, start, start + len(value)))
        text += before + value + after + dice.choice(("", "\n", " "))
        text += "。" if text[-1].isalnum() else ""
    if not spans or dice.random() < 0.5:
        text += _decoy(dice)
    return text, spans


def _filled(dice: random.Random, frame: str) -> str:
    return frame.replace("{name}", dice.choice(NAMES)).replace("{city}", dice.choice(CITIES))


def _decoy(dice: random.Random) -> str:
    text = _filled(dice, dice.choice(DECOYS))
    for length in range(20, 0, -1):
        while f"{{{length}}}" in text:
            text = text.replace(f"{{{length}}}", _digits(dice, length), 1)
    return text


def _digits(dice: random.Random, count: int) -> str:
    return str(dice.randint(1, 9)) + "".join(dice.choices("0123456789", k=count - 1))


def resident_id(dice: random.Random) -> str:
    born = date(1945, 1, 1) + timedelta(days=dice.randrange(27_000))
    body = dice.choice(REGIONS) + f"{born:%Y%m%d}" + "".join(dice.choices("0123456789", k=3))
    total = sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(body))
    number = body + "10X98765432"[total % 11]
    shape = dice.random()
    if shape < 0.1:
        return number.translate(WIDE)
    return f"{number[:6]} {number[6:14]} {number[14:]}" if shape < 0.2 else number


def phone(dice: random.Random) -> str:
    if dice.random() < 0.15:
        return f"0{dice.choice(('10', '21', '755', '571'))}-{_digits(dice, 8)}"
    first, middle, last = (
        f"1{dice.choice('3456789')}{dice.randint(0, 9)}",
        *(f"{dice.randint(0, 9999):04}" for _ in range(2)),
    )
    way = dice.choice(
        ("{}{}{}", "{}{}{}", "{}-{}-{}", "{} {} {}", "+86{}{}{}", "+86 {} {} {}", "wide")
    )
    if way == "wide":
        return (first + middle + last).translate(WIDE)
    return way.format(first, middle, last)


def bank_card(dice: random.Random) -> str:
    length = dice.choice((16, 19))
    body = dice.choice(("622202", "621700", "622848", "625912", "436742")) + _digits(dice, 30)
    body = body[: length - 1] if body[0] == "6" else body[:15]
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(body))]
    check = -sum(value // 10 + value % 10 for value in doubled) % 10
    number = f"{body}{check}"
    spaced = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    return spaced if dice.random() < 0.3 else number


def company_id(dice: random.Random) -> str:
    body = dice.choice(("91", "92", "52")) + dice.choice(REGIONS)
    body += "".join(dice.choices(LETTERS, k=9))
    total = sum(LETTERS.index(letter) * 3**place for place, letter in enumerate(body))
    return body + LETTERS[-total % 31]


def email(dice: random.Random) -> str:
    name = "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(4, 9)))
    place = dice.choice(("qq.com", "163.com", "example.cn", "mail.example.com.cn"))
    return f"{name}{dice.randint(0, 999)}@{place}"


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "cn_resident_id": resident_id,
    "phone": phone,
    "card": bank_card,
    "cn_company_id": company_id,
    "email": email,
}
