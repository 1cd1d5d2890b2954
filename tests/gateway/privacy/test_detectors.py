"""What is found in texts, where it begins and ends, and what is no finding."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.gateway.privacy.detectors import find
from tokenworks.gateway.privacy.entities import KINDS, PLAIN

SOAK = os.environ.get("TOKENWORKS_SOAK") == "1"
AWS_KEY = "AKIA" + "IOSFODNN7EXAMPLE"
RANDOM = "q8Zr2LwX0vTnB5yKc7Hd" + "F3mJs9PgUa1E"

PERSONAL = [
    (
        "email",
        "Write to anna.smith+list@mail.example.co.uk, please.",
        "anna.smith+list@mail.example.co.uk",
    ),
    ("email", "josé@example.com", "josé@example.com"),
    ("phone", "Call me at (602) 272-9781 x12.", "(602) 272-9781 x12"),
    ("phone", "it is +44 20 7946 0958 in London", "+44 20 7946 0958"),
    ("phone", "Phone:\n467 3395\n", "467 3395"),
    ("phone", "Tél. 01.42.68.53.00", "01.42.68.53.00"),
    ("phone", "call 0049 30 901820", "0049 30 901820"),
    ("phone", "tel6022729781", "6022729781"),
    ("phone", r'{"note": "mobile:\n13800138000"}', "13800138000"),
    ("phone", "home_phone = 467 3395", "467 3395"),
    ("us_ssn", "SSN536-90-4399", "536-90-4399"),
    ("card", "paid with 4111 1111 1111 1111 today", "4111 1111 1111 1111"),
    ("card", "amex 3782-822463-10005", "3782-822463-10005"),
    ("card", "my card 630495060000000000", "630495060000000000"),
    ("card", "4111.1111.1111.1111", "4111.1111.1111.1111"),
    ("card", "(4111111111111111)", "4111111111111111"),
    ("iban", "IBAN GB82 WEST 1234 5698 7654 32 is mine", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "to de89370400440532013000.", "de89370400440532013000"),
    ("bank_account", "account number 945456787654", "945456787654"),
    ("us_ssn", "SSN 536-90-4399", "536-90-4399"),
    ("us_ssn", "my social security number is 536904399", "536904399"),
    ("us_itin", "ITIN: 912-70-3456", "912-70-3456"),
    ("national_id", "NHS number 943 476 5919", "943 476 5919"),
    ("national_id", "NINO AB 12 34 56 C", "AB 12 34 56 C"),
    ("national_id", "CPF 390.533.447-05", "390.533.447-05"),
    ("national_id", "DNI 54362315-K", "54362315-K"),
    ("national_id", "NIE X-2482300-W", "X-2482300-W"),
    ("national_id", "codice fiscale RCCMNL83S18D969H", "RCCMNL83S18D969H"),
    ("national_id", "PESEL 44051401359", "44051401359"),
    ("national_id", "BSN: 111222333", "111222333"),
    ("national_id", "nir 2 95 10 99 126 111 93", "2 95 10 99 126 111 93"),
    ("national_id", "Steuer-ID (Steuernummer) 36574261809", "36574261809"),
    ("national_id", "Aadhaar 2341 2341 2346", "2341 2341 2346"),
    ("national_id", "PAN ACUPA7085R", "ACUPA7085R"),
    ("company_id", "CNPJ 16.727.230/0001-97", "16.727.230/0001-97"),
    ("passport", "passport no. C01X00T47 or passport 123456789", "123456789"),
    ("driver_license", "my driver's license is F162823540116", "F162823540116"),
    ("ip_address", "from 203.0.113.77 at noon", "203.0.113.77"),
    ("ip_address", "at 2001:db8:85a3::8a2e:370:7334.", "2001:db8:85a3::8a2e:370:7334"),
    ("mac_address", "eth0 00:1A:2b:3C:4d:5E", "00:1A:2b:3C:4d:5E"),
    (
        "crypto_address",
        "pay 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    ),
    (
        "crypto_address",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    ),
    ("url", "see https://example.org/a?b=1.", "https://example.org/a?b=1"),
    ("url", "see www.example.org", "www.example.org"),
    ("url", "see shop.example.com for more", "shop.example.com"),
    ("date", "born 1978-04-13 12:20:39", "1978-04-13 12:20:39"),
    ("date", "on March 5th, 1990", "March 5th, 1990"),
    ("date", "am 5.3.1990", "5.3.1990"),
]

CREDENTIALS = [
    ("api_key", f"key {AWS_KEY} here", AWS_KEY),
    ("api_key", "ghp_" + RANDOM + "1234", "ghp_" + RANDOM + "1234"),
    ("api_key", "glpat-" + RANDOM[:20], "glpat-" + RANDOM[:20]),
    ("api_key", "xoxb-" + "123456789012-abcdefGHIJ", "xoxb-" + "123456789012-abcdefGHIJ"),
    ("api_key", "sk-proj-" + RANDOM, "sk-proj-" + RANDOM),
    ("api_key", "sk-ant-api03-" + RANDOM, "sk-ant-api03-" + RANDOM),
    ("api_key", "AIza" + RANDOM + "abc", "AIza" + RANDOM + "abc"),
    ("api_key", "sk_live_" + RANDOM[:24], "sk_live_" + RANDOM[:24]),
    ("api_key", "LTAI" + RANDOM[:20], "LTAI" + RANDOM[:20]),
    ("api_key", "SG." + RANDOM[:22] + "." + RANDOM, "SG." + RANDOM[:22] + "." + RANDOM),
    (
        "jwt",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl ok",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ),
    ("url_credentials", "postgres://app:s3cr3t@db.example.com/x", "app:s3cr3t"),
    ("password", "password = hunter2", "hunter2"),
    ("password", '{"password": "correct horse"}', "correct horse"),
    ("password", "The password is Tr0ub4dor&3.", "Tr0ub4dor&3"),
    ("password", "user: anna\npassword: letmein\nhost: a", "letmein"),
    ("password", "DB_PASSWORD=$ecret(1)%", "$ecret(1)%"),
    ("password", "登录密码：abc12345，请保密", "abc12345"),
    ("password", "我的密码是Qwerty!2024。", "Qwerty!2024"),
    ("secret_token", "api_key: 1f0c9a7e55d2", "1f0c9a7e55d2"),
    ("secret_token", "Authorization: Bearer " + RANDOM, RANDOM),
    ("secret_token", "Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("secret_token", "AccountKey=" + RANDOM + "==;", RANDOM + "=="),
    ("secret_token", "aws_secret_access_key = " + RANDOM + "/abc+d", RANDOM + "/abc+d"),
    ("secret_token", f"the signing secret, {RANDOM}", RANDOM),
    ("secret_token", f"use {RANDOM}{RANDOM[::-1]} there", RANDOM + RANDOM[::-1]),
]

CHINESE = [
    ("cn_resident_id", "身份证号11010519491231002X。", "11010519491231002X"),
    ("cn_resident_id", "我的身份证是110105 19491231 002x谢谢", "110105 19491231 002x"),
    (
        "cn_resident_id",
        "身份证１１０１０５１９４９１２３１００２Ｘ",
        "１１０１０５１９４９１２３１００２Ｘ",
    ),
    ("cn_resident_id", "旧身份证号码110105491231002，请查", "110105491231002"),
    ("phone", "手机13800138000联系", "13800138000"),
    ("phone", "手机号是138-0013-8000", "138-0013-8000"),
    ("phone", "请打+86 138 0013 8000找我", "+86 138 0013 8000"),
    ("phone", "电话：１３８００１３８０００", "１３８００１３８０００"),
    ("phone", "座机010-62771234转", "010-62771234"),
    ("phone", "客服400-810-8888", "400-810-8888"),
    ("card", "银行卡号6222021234567890128，户名张三", "6222021234567890128"),
    ("card", "卡号6222 0212 3456 7890 128", "6222 0212 3456 7890 128"),
    ("cn_company_id", "统一社会信用代码91350100M000100Y43", "91350100M000100Y43"),
    ("cn_company_id", "组织机构代码D2143569-X", "D2143569-X"),
    ("email", "邮箱是zhang.san@example.cn，谢谢", "zhang.san@example.cn"),
    ("email", "邮箱：ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｎ", "ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｎ"),
    ("date", "生于1990年3月5日。", "1990年3月5日"),
    ("passport", "护照号E12345678", "E12345678"),
    ("ip_address", "服务器地址203.0.113.77已封", "203.0.113.77"),
]

NOTHING = [
    "In 1977 the orchestra had 120 members and played 1,234,567 notes.",
    "It costs $6000-600-150-1200 = $4050, or 3.141592653589793 each.",
    "customer id 123456782, answer 12345678, the text has 1234567 characters",
    "Order 12345678, invoice 4111111111111112, version 10.2.3.4.5.",
    "The time was 10:20:30, the ratio 16:9, and x[::2] takes every second.",
    "commit 3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
    "id 123e4567-e89b-12d3-a456-426614174000",
    "max_tokens=prompt_tokens, tokenizer: Sequence[int], password: str",
    "password = os.environ['PASSWORD']; api_key=${API_KEY}",
    "Basic JavaScript is basic Knowledge; a bearer of a token12345 is no secret.",
    "password: str, password: string; password: ${DB_PASSWORD}, pwd=$PASSWORD",
    "Password: it must be long. Your token: how it works.",
    "The password is wrong. Your secret is safe. A token is a word.",
    "listening on 127.0.0.1 and ::1 and 0.0.0.0",
    "TensorRT-LLM meta-llama-3.1-8b-instruct-q4_k_m model_config_for_testing_v2",
    "第3章第12节，共156页，2024年。",
    "订单号20240305123456，数量100",
    "身份证11010519491231002Y和号码12345678901都不对",
    "<EMAIL_1> and <PHONE_12> and password=<PASSWORD_1>",
    'password="<PASSWORD_1>" and {"password": "<PASSWORD_1>"}',
]


def found(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find(text)]


@pytest.mark.parametrize(("kind", "text", "what"), PERSONAL + CREDENTIALS + CHINESE)
def test_it_is_found_from_its_first_character_to_its_last(kind: str, text: str, what: str) -> None:
    assert (kind, what) in found(text)
    others = [one for one in found(text) if one != (kind, what) and one[0] not in PLAIN]
    assert others == [] or kind == "url"


def test_every_kind_has_an_example() -> None:
    examples = {kind for kind, _, _ in PERSONAL + CREDENTIALS + CHINESE} | {"private_key"}

    assert examples == set(KINDS)


@pytest.mark.parametrize("text", NOTHING)
def test_ordinary_text_holds_nothing(text: str) -> None:
    assert [one for one in found(text) if one[0] not in PLAIN] == []


def test_a_private_key_is_found_whole_also_if_its_end_is_missing() -> None:
    head, tail = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
    block = f"{head}\nMIIEow\n{tail}"

    assert found(f"a {block} b") == [("private_key", block)]
    assert found(f"a {head}\nMIIEow") == [("private_key", f"{head}\nMIIEow")]


def test_signs_that_nobody_sees_do_not_hide_a_finding() -> None:
    text = "mail an\u200bna@exam\u00adple.com now"

    assert found(text) == [("email", "an\u200bna@exam\u00adple.com")]


@pytest.mark.parametrize(
    "sign", ["\u200b", "\u034f", "\u061c", "\u180e", "\u2066", "\ufe0f", "\U000e0031"]
)
def test_signs_between_digits_do_not_hide_a_number(sign: str) -> None:
    number = sign.join("13812345678")

    assert found(f"Reach me: {number}, soon") == [("phone", number)]


@pytest.mark.parametrize("zero", [0x0660, 0x07C0, 0x0BE6, 0x0ED0, 0x1040, 0x17E0, 0xFF10, 0x1D7F6])
def test_digits_of_any_script_are_digits(zero: int) -> None:
    number = "".join(chr(zero + int(digit)) for digit in "11010519491231002")

    assert found(f"我的号码是{number}X，谢谢") == [("cn_resident_id", f"{number}X")]


@pytest.mark.parametrize(
    "between", [" - ", "  ", "- ", " -", " \u2013 ", "\u3000\u3000", " \u2011"]
)
def test_groups_that_stand_far_apart_are_one_number(between: str) -> None:
    for kind, groups in (
        ("phone", ["138", "1234", "5678"]),
        ("card", ["4111", "1111", "1111", "1111"]),
        ("cn_resident_id", ["110105", "19491231", "002X"]),
    ):
        number = between.join(groups)
        assert found(f"Reach me: {number}, soon") == [(kind, number)]


@pytest.mark.parametrize("between", [" ", "-", "\u3000", "\u2013"])
def test_digits_that_stand_one_by_one_are_one_number(between: str) -> None:
    for kind, number in (("phone", "13812345678"), ("card", "4111111111111111")):
        apart = between.join(number)
        assert found(f"Reach me: {apart}, soon") == [(kind, apart)]
    assert found(f"row: {between.join('13812345678901234567890')} end") == []


def test_what_a_url_holds_is_found_too() -> None:
    kinds = dict(found("https://example.com/?mail=anna@example.org&ip=203.0.113.77"))

    assert set(kinds) == {"url", "email", "ip_address"}


TROUBLE = st.sampled_from(
    [
        *"0123456789+-()/. :@=x²٣१Ⅷİıſ\u200b\u00ad－（）年月日",
        *(
            "身份证",
            "电话",
            "密码是",
            "NHS ",
            "SSN ",
            "passport ",
            "account ",
            "0x",
            "bc1",
            "GB",
            "AB ",
        ),
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(TROUBLE, max_size=40).map("".join)))
@settings(deadline=None)  # an example may be the first to import the numbering plans
def test_findings_are_in_order_and_inside_the_text(text: str) -> None:
    strong_end = 0
    for one in find(text):
        assert 0 <= one.start < one.end <= len(text)
        assert 0 < one.score <= 1
        assert one.kind in KINDS
        if one.kind not in PLAIN:
            assert one.start >= strong_end
            strong_end = one.end


HOSTILE = [
    *("a", "1", "1 ", "12 ", "1.", "1.1.", "1-", "(", "+1", "@", "a@", "a@b.", "a.", ":", "a:"),
    *("eyJ", "eyJaaaaaaaa.", "http://", "http://a:b@", "-----BEGIN PRIVATE KEY-----", "password="),
    *(
        "password is ",
        "pwd:'",
        "密码是",
        "身份证",
        "GB12 ",
        "a1",
        "0x",
        "&lt;",
        "<EMAIL_",
        "\u200b",
    ),
    *("13800138000", "4111111111111111 ", "phone 1234567 ", "key 1111111 ", "1999-1-1 ", "Jan 1 "),
    *("11:22:", "aa-bb-", "www.", "=", "/", "-", "\\u003c", "１", "a1b2c3d4e5f6g7h8", "1 (2"),
]


@pytest.mark.timeout(600 if SOAK else 120)
def test_no_text_takes_more_than_its_length_warrants() -> None:
    """50 times as long a text takes about 50 times as long, and not the 2,500 times of a square."""

    def seconds(length: int, part: str) -> float:
        text = (part * (length // len(part) + 1))[:length]
        begun = time.process_time()
        find(text)
        return time.process_time() - begun

    longest = 1_000_000 if SOAK else 200_000
    for part in HOSTILE:
        short = min(seconds(longest // 50, part) for _ in range(2))

        # Whatever else happens on the machine slows one of them down, and not all three.
        assert any(seconds(longest, part) < 0.2 + 200 * short for _ in range(3)), part
    assert seconds(1_000_000, "".join(HOSTILE)) < 20


def test_importing_it_does_not_import_the_numbering_plans() -> None:
    code = (
        "import sys; from tokenworks.gateway.privacy import detectors, masking, labels;"
        "detectors.find('mail anna@example.com or call (602) 272-9781');"
        "print(sorted(m for m in sys.modules if m.startswith(('phonenumbers', 'stdnum'))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
