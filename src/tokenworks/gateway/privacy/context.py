"""Which subject the words next to a number speak of: many numbers mean nothing without it."""

import re
from typing import Final

BEFORE: Final = 64
AFTER: Final = 32
"""Characters that are looked at on either side."""

_ENGLISH: Final = {
    "phone": "phone phones telephone tel cell cellphone mobile mob fax call calls calling called"
    " dial dialing texting sms whatsapp wechat landline hotline helpline voicemail"
    " answering ring rang message messages pager callback desk telefon telefono"
    " móvil handy celular téléphone portable",
    "card": "card cards visa mastercard amex discover maestro jcb unionpay cc pan debit credit"
    " creditcard karte carte tarjeta",
    "account": "account acct routing aba iban konto cuenta compte sortcode",
    "ssn": "ssn ssns social",
    "itin": "itin taxpayer tin",
    "passport": "passport passports reisepass passeport pasaporte",
    "driver": "driver drivers driving licence license licenses dl permit führerschein permis",
    "identity": "identity identification national citizen nationality nino nhs insurance aadhaar"
    " aadhar pesel bsn nir cpf cnpj curp dni nie nif codice fiscale personnummer cpr insee"
    " steuer steuernummer idnr tax sin tfn burgerservicenummer ahv nric hkid rut"
    " medicare",
    "secret": "password passwd pwd passphrase passcode secret secrets token key apikey"
    " auth authorization bearer credential credentials signature hmac salt pin",
    "other": "order orders invoice tracking version isbn issn sku serial model port part ticket"
    " case reference ref item bug build commit timestamp epoch population",
}
_CHINESE: Final = {
    "phone": "电话 手机 手機 電話 联系方式 联系 致电 请打 打给 拨打 回拨 验证码 座机 传真 热线"
    " 短信 来电 微信",
    "card": "银行卡 卡号 信用卡 借记卡 储蓄卡 銀行卡 打款 转账 汇款",
    "account": "账号 账户 帐号 开户",
    "passport": "护照 護照 通行证",
    "driver": "驾驶证 驾照 驾驶执照",
    "identity": "身份证 身份證 证件 身份 公民",
    "company": "信用代码 组织机构 机构代码 统一社会 营业执照 纳税人",
    "secret": "密码 口令 密钥 令牌 秘钥 密碼",
    "other": "订单 單號 单号 编号 流水 快递 版本 型号 工号 时间戳 面积 总价 预算 金额 价格",
}
_SUBJECT: Final = {word: subject for subject, words in _ENGLISH.items() for word in words.split()}
_TERMS: Final = {term: subject for subject, terms in _CHINESE.items() for term in terms.split()}
_SENTENCE_END: Final = re.compile("[。！？]")
_ONLY_BEFORE: Final = ("other", "identity", "account")
_WORD: Final = re.compile(r"[a-zÀ-ɏ]++(?:_[a-zÀ-ɏ]++)*+(?!_\d*(?:>|$))|[一-鿿]{2,}")
"""Words and identifiers; a placeholder says nothing about its neighbours."""


def subjects(text: str, start: int, end: int) -> tuple[str, ...]:
    """The subjects around `text[start:end]`, the nearest one first: those before it, then after."""
    before = _SENTENCE_END.split(text[max(0, start - BEFORE) : start].lower())[-1]
    after = _SENTENCE_END.split(text[end : end + AFTER].lower(), maxsplit=1)[0]
    return (*reversed(_in(before)), *(each for each in _in(after) if each not in _ONLY_BEFORE))


def speaks_of(word: str) -> str:
    """The subject of one word; empty if it has none."""
    return _SUBJECT.get(word.lower(), "")


def subject(text: str, start: int, end: int) -> str:
    """The nearest of them; empty if there is none."""
    around = subjects(text, start, end)
    return around[0] if around else ""


def _in(window: str) -> list[str]:
    found: list[str] = []
    if not _WORD.search(window):
        return found
    for word in _WORD.findall(window):
        if word >= "一":
            places = ((word.rfind(term), term) for term in _TERMS)
            found += [_TERMS[term] for place, term in sorted(places) if place >= 0]
        else:
            found += [_SUBJECT[part] for part in word.split("_") if part in _SUBJECT]
    return found
