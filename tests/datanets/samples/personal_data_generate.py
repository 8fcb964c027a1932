"""Writes a labelled sample for the personal-data check: `python personal_data_generate.py SEED FILE`.

Formats are written down from what is public about them (RFC 5321, ISO 13616, ISO/IEC 7812, E.164 and the national habits
of writing), not from the patterns of the check. Each sample is generated before the check is run on it. Everything is
invented: the names end in reserved domains, the accounts and cards have right check digits and no owner.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

PER_KIND, NEGATIVES = 60, 120

CARRIERS = [
    "Please get in touch with Alice: {}.",
    "Bob said that {} is the right one, and Carol agreed.",
    "Best regards,\nAlice Wren\n{}\nHill Street 4",
    "Best regards\nBob Lark | Heron Ltd | {}",
    '{{"name": "Dan", "value": "{}", "active": true}}',
    '{{\n  "value": "{}"\n}}',
    "| Name | Value |\n|---|---|\n| Erin | {} |",
    "- Carol: **{}**\n- nothing else",
    "See [{}] for the rest.",
    "name\tvalue\nErin\t{}",
    "name;value;ok\nErin;{};yes",
    "<td>{}</td><td>Erin</td>",
    "<p>Écrivez-nous : {} !</p>",
    "Meine neue Nummer/Adresse lautet {}, bis bald",
    "user: 'erin' value: '{}'",
    "2024-03-11 10:22:31 INFO row 17 value={} status=ok",
    "> quoted reply\n> {}\n> thanks",
    "Hello,\n\nhere it is:\n{}\n\nThanks, Dan",
    "(old: none, new: {})",
    "{}",
    "Could you check {}? It did not work for me",
    "“{}”, he wrote",
    "Alice Wren <br> {} <br> Heron Ltd",
    "Bitte verwenden: {} (Bob Lark)",
    "Erin/{}/paid",
]
SPACES = {
    "space": " ",
    "nbsp": "\u00a0",
    "narrow": "\u202f",
    "thin": "\u2009",
    "dash": "-",
    "dot": ".",
    "slash": "/",
    "en": "\u2013",
}

_FIRST = ["ada", "bob", "carol", "dan", "erin", "jürgen", "zoë", "lou", "maría", "k", "sven", "priya", "yuki"]
_LAST = ["wren", "lark", "heron", "swift", "o'neil", "van-dyk", "finch", "löwe", "crane7", "tern"]
_HOSTS = ["example.org", "example.com", "mail.example.co.uk", "example.de", "uni.example.ac.jp", "exämple.ch", "xn--exmple-cua.fr",
          "a-b.example.io", "example.museum", "пример.рф", "example.xn--p1ai", "EXAMPLE.NL", "sub.sub.example.info"]  # fmt: skip


def email(rng: random.Random) -> str:
    first, last, host = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_HOSTS)
    plain_host = rng.choice(["example.org", "mail.example.com", "example.co.uk", "example.fr", "example.se"])
    ascii_first, ascii_last = rng.choice(["ada", "bob", "carol", "dan"]), rng.choice(["wren", "lark", "heron"])
    dotted = f"{ascii_first}.{ascii_last}"
    words = plain_host.replace(".", " dot ")
    return rng.choice(
        [
            lambda: f"{first}.{last}@{host}",
            lambda: f"{first}_{last}@{host}",
            lambda: f"{first[0]}{last}{rng.randint(1, 99)}@{host}",
            lambda: f"{first.upper()}.{last.upper()}@{host.upper()}",
            lambda: f"{first}+{rng.choice(['news', 'tag.1', 'x-y'])}@{host}",
            lambda: f"{first}&{last}@{host}",
            lambda: f"mailto:⟦{dotted}@{plain_host}⟧?subject=Hello",
            lambda: f"{first} {last} <⟦{dotted}@{plain_host}⟧>",
            lambda: f"{dotted} [at] {plain_host}",
            lambda: f"{dotted}(at){plain_host}",
            lambda: f"{ascii_first} (at) {words}",
            lambda: f"{ascii_first} at {words}",
            lambda: f"{ascii_first} AT {words.replace('dot', 'DOT')}",
            lambda: f"{ascii_first}[at]{plain_host.replace('.', '[dot]')}",
            lambda: f"{ascii_first}{{at}}{plain_host.replace('.', '{dot}')}",
            lambda: f"{ascii_first} [@] {plain_host.replace('.', ' [.] ')}",
            lambda: f"{ascii_first} <at> {plain_host.replace('.', ' <dot> ')}",
            lambda: f"{dotted} (arobase) {plain_host.replace('.', ' (point) ')}",
            lambda: f"{dotted} arroba {plain_host.replace('.', ' punto ')}",
            lambda: f"{dotted} (ät) {plain_host.replace('.', ' (punkt) ')}",
            lambda: f"{ascii_first} dot {ascii_last} at {words}",
            lambda: f"{dotted} @ {plain_host}",
            lambda: f"{dotted}@\u200b{plain_host}",
            lambda: f"{ascii_first}\u00ad.{ascii_last}@{plain_host}",
            lambda: f"{dotted}&#64;{plain_host}",
            lambda: f"{dotted}&#x40;{plain_host.replace('.', '&#46;')}",
            lambda: f"{dotted}%40{plain_host}",
            lambda: f"{dotted}＠{plain_host}",
            lambda: f"{dotted}\\@{plain_host}",
            lambda: f'"{ascii_first} {ascii_last}"@{plain_host}',
            lambda: f"{dotted}@[192.0.2.{rng.randint(1, 254)}]",
        ]
    )()


def _grouped(text: str, size: int, gap: str) -> str:
    return gap.join(text[i : i + size] for i in range(0, len(text), size))


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


# Structure of the account number: n digits, a letters, c either (ISO 13616 registry).
_BBAN = {
    "DE": "18n", "FR": "10n11c2n", "GB": "4a14n", "NL": "4a10n", "BE": "12n", "ES": "20n", "IT": "1a10n12c", "CH": "5n12c",
    "AT": "16n", "PT": "21n", "PL": "24n", "SE": "20n", "NO": "11n", "DK": "14n", "FI": "14n", "IE": "4a14n", "LU": "3n13c",
    "CZ": "20n", "GR": "7n16c", "TR": "5n1n16c", "RO": "4a16c", "HU": "24n", "MT": "4a5n18c", "BR": "23n1a1c", "SA": "2n18c",
    "AE": "19n", "IL": "19n", "EE": "16n", "LV": "4a13c", "HR": "17n",
}  # fmt: skip


def _account(rng: random.Random) -> str:
    country = rng.choice(list(_BBAN))
    bban, count = "", ""
    for c in _BBAN[country]:
        if c.isdigit():
            count += c
            continue
        letters = {
            "n": "0123456789",
            "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "c": "0123456789" * 3 + "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        }[c]
        bban += "".join(rng.choice(letters) for _ in range(int(count)))
        count = ""
    check = 98 - int("".join(str(int(c, 36)) for c in bban + country + "00")) % 97
    return f"{country}{check:02d}{bban}"


def iban(rng: random.Random) -> str:
    number = _account(rng)
    cut = rng.randrange(2, len(number) // 4) * 4
    return rng.choice(
        [
            lambda: number,
            lambda: number.lower(),
            lambda: _grouped(number, 4, " "),
            lambda: _grouped(number, 4, rng.choice(list(SPACES.values()))),
            lambda: _grouped(number, 4, rng.choice(["\u00a0", "\u2009", "\u202f"])),
            lambda: _grouped(number, 4, rng.choice(["  ", "_", " - "])),
            lambda: _grouped(number.lower(), 4, " "),
            lambda: f"{number[:2]} {number[2:4]} {number[4:]}",
            lambda: f"{number[:4]} {_grouped(number[4:], 5, ' ')}",
            lambda: f"IBAN⟦{number}⟧",
            lambda: f"IBAN:⟦{_grouped(number, 4, ' ')}⟧",
            lambda: f"iban=⟦{number}⟧",
            lambda: f"{_grouped(number[:cut], 4, ' ')}\n{_grouped(number[cut:], 4, ' ')}",
            lambda: f"{number[:cut]}\n{number[cut:]}",
            lambda: f"{number[:6]}\u200b{number[6:]}",
            lambda: f"⟦{number}⟧/BIC COBADEFFXXX",
            lambda: f"IBAN ⟦{_grouped(number, 4, ' ')}⟧ BIC GENODEF1S02",
        ]
    )()


def _luhn_complete(start: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(start)))
    return f"{start}{-total % 10}"


def _pan(rng: random.Random) -> str:
    prefix, length = rng.choice(
        [("4", 16), ("4", 16), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("37", 15),
         ("6011", 16), ("65", 16), ("36", 14), ("3528", 16), ("6221", 16), ("6759", 16), ("2202", 16), ("5018", 16), ("38", 14)]
    )  # fmt: skip
    return _luhn_complete(prefix + _digits(rng, length - len(prefix) - 1))


def card(rng: random.Random) -> str:
    number = _pan(rng)
    gap = rng.choice(list(SPACES.values()))
    if len(number) == 15 and rng.random() < 0.8 or len(number) == 14 and rng.random() < 0.5:
        parts = [number[:4], number[4:10], number[10:]]
    else:
        parts = [number[i : i + 4] for i in range(0, len(number), 4)]
    return rng.choice(
        [
            lambda: number,
            lambda: " ".join(parts),
            lambda: "-".join(parts),
            lambda: gap.join(parts),
            lambda: rng.choice(["  ", "\u2007", " - ", "_"]).join(parts),
            lambda: f"Visa ⟦{' '.join(parts)}⟧ exp 12/27",
            lambda: f"⟦{' '.join(parts)}⟧ 09/28 123",
            lambda: f"card=⟦{number}⟧",
            lambda: f"CC:⟦{number}⟧;",
            lambda: f"⟦{' '.join(parts)}⟧, CVC 321",
            lambda: f"⟦{number}⟧|11|2028|999",
            lambda: f"{' '.join(parts[:2])}\u00a0{' '.join(parts[2:])}",
            lambda: f"{number[:8]}\u200b{number[8:]}",
        ]
    )()


def _national(rng: random.Random) -> tuple[str, str, list[str]]:
    """(country code, trunk prefix, groups without the prefix) in the habit of a country."""
    d = lambda n: _digits(rng, n)  # noqa: E731 - short by need, used forty times below
    area, exchange = (
        rng.choice("2346789") + rng.choice("02345678") + rng.choice("23456789"),
        rng.choice("23456789") + d(2),
    )
    return rng.choice(
        [
            ("1", "", [area, exchange, d(4)]), ("1", "", [area, "555", "01" + d(2)]), ("1", "1", [area, exchange, d(4)]),
            ("33", "0", [rng.choice("1234567"), d(2), d(2), d(2), d(2)]), ("33", "0", ["6", d(2), d(2), d(2), d(2)]),
            ("44", "0", ["20", "7" + d(3), d(4)]), ("44", "0", ["7" + d(3), d(6)]), ("44", "0", ["7700", "900", d(3)]),
            ("44", "0", ["1" + d(3), d(3), d(3)]), ("44", "0", ["121", "496", d(4)]),
            ("49", "0", ["30", "2" + d(3), d(4)]), ("49", "0", ["89", "4" + d(6)]), ("49", "0", ["17" + d(1), d(7)]),
            ("49", "0", ["6221", "5" + d(5)]), ("49", "0", ["151", d(4), d(4)]),
            ("34", "", ["6" + d(2), d(2), d(2), d(2)]), ("34", "", ["91" + d(1), d(3), d(3)]), ("34", "", ["6" + d(2), d(3), d(3)]),
            ("39", "", ["34" + d(1), d(3), d(4)]), ("39", "", ["06", d(4), d(4)]), ("39", "", ["02", d(8)]),
            ("41", "0", ["79", d(3), d(2), d(2)]), ("41", "0", ["44", d(3), d(2), d(2)]),
            ("32", "0", ["2", d(3), d(2), d(2)]), ("32", "0", ["47" + d(1), d(2), d(2), d(2)]),
            ("31", "0", ["6", d(8)]), ("31", "0", ["20", d(3), d(4)]), ("31", "0", ["6", d(2), d(2), d(2), d(2)]),
            ("48", "", ["6" + d(2), d(3), d(3)]), ("48", "", ["22", d(3), d(2), d(2)]),
            ("46", "0", ["70", d(3), d(2), d(2)]), ("46", "0", ["8", d(3), d(3), d(2)]),
            ("91", "", ["98" + d(3), d(5)]), ("91", "0", ["22", "2" + d(3), d(4)]),
            ("55", "", ["11", "9" + d(4), d(4)]), ("55", "", ["21", "3" + d(3), d(4)]),
            ("81", "0", ["3", d(4), d(4)]), ("81", "0", ["90", d(4), d(4)]),
            ("61", "0", ["2", "9" + d(3), d(4)]), ("61", "0", ["4" + d(2), d(3), d(3)]),
            ("43", "0", ["1", d(3), d(2), d(2)]), ("45", "", [d(2), d(2), d(2), d(2)]), ("47", "", ["9" + d(2), d(2), d(3)]),
            ("351", "", ["91" + d(1), d(3), d(3)]), ("353", "0", ["1", d(3), d(4)]), ("7", "8", ["9" + d(2), d(3), d(2), d(2)]),
            ("86", "", ["13" + d(1), d(4), d(4)]), ("52", "", ["55", d(4), d(4)]), ("90", "0", ["53" + d(1), d(3), d(2), d(2)]),
            ("27", "0", ["82", d(3), d(4)]), ("972", "0", ["50", d(3), d(4)]), ("30", "", ["210", d(3), d(4)]),
        ]
    )  # fmt: skip


def phone(rng: random.Random) -> str:
    code, trunk, groups = _national(rng)
    gap = rng.choice([" ", " ", "-", ".", "\u00a0", "\u2009", "\u202f", "\u2011"])
    label = rng.choice(
        [
            "Tel. ",
            "Tel: ",
            "tél. ",
            "Phone: ",
            "mobile ",
            "T ",
            "Fax: ",
            "Handy ",
            "call ",
            "WhatsApp ",
            "Telefon ",
            "móvil ",
        ]
    )
    national = gap.join([trunk + groups[0], *groups[1:]]) if trunk in ("", "0") else gap.join([trunk, *groups])
    bracketed = f"({trunk if trunk == '0' else ''}{groups[0]}) {gap.join(groups[1:])}"
    # Without its country code or a label, nobody can tell eight or nine bare digits from any other number.
    clear = trunk == "0" or len("".join(groups)) >= 10
    abroad = f"+{code}{gap}{gap.join(groups)}"
    return rng.choice(
        [
            lambda: abroad,
            lambda: f"+{code} {gap.join(groups)}",
            lambda: f"+{code}{''.join(groups)}",
            lambda: f"+{code} {''.join(groups)}",
            lambda: f"00{code} {gap.join(groups)}",
            lambda: f"00{code}{''.join(groups)}",
            lambda: f"(+{code}) {gap.join(groups)}",
            lambda: f"+{code} (0){groups[0]} {gap.join(groups[1:])}" if trunk == "0" else abroad,
            lambda: f"+{code} ({groups[0]}) {gap.join(groups[1:])}",
            lambda: f"+{code}-{groups[0]}-{''.join(groups[1:])}",
            lambda: f"tel:⟦+{code}-{'-'.join(groups)}⟧",
            lambda: f"{abroad} ext. {rng.randint(10, 999)}",
            lambda: f"{abroad} x{rng.randint(10, 999)}",
            lambda: national if clear else f"{label}⟦{national}⟧",
            lambda: national if clear else f"{label}⟦{national}⟧",
            lambda: f"{label}⟦{national}⟧",
            lambda: f"{label}⟦{national}⟧",
            lambda: f"{label}⟦{national.replace(gap, '')}⟧",
            lambda: bracketed if clear else f"{label}⟦{bracketed}⟧",
            lambda: f"{label}⟦{bracketed}⟧",
            lambda: f"0{groups[0]}/{''.join(groups[1:])}" if trunk == "0" else abroad,
            lambda: f"0{groups[0]} / {' '.join(groups[1:])}" if trunk == "0" else abroad,
            lambda: f"{abroad[:-4]}\u200b{abroad[-4:]}",
        ]
    )()


def negative(rng: random.Random) -> str:
    d, n = (lambda k: _digits(rng, k)), rng.randint
    isbn = f"978-{n(0, 9)}-{d(2)}-{d(6)}-{d(1)}"
    visa = _luhn_complete("4" + d(14))
    wrong = visa[:-1] + str((int(visa[-1]) + n(1, 9)) % 10)
    account = _account(rng)
    bad = account[:2] + f"{(int(account[2:4]) + n(1, 90)) % 97 + 2:02d}" + account[4:]
    bad = bad if bad != account else account[:-1]
    makers: list[Callable[[], str]] = [
        lambda: f"ISBN {isbn}",
        lambda: f"ISBN-10: {n(0, 9)}-{d(3)}-{d(5)}-{d(1)}; ISSN {n(1000, 9999)}-{d(4)}",
        lambda: f"Version {n(0, 20)}.{n(0, 20)}.{n(0, 99)}.{n(0, 9999)} of {n(2000, 2025)}-{n(10, 12)}-{n(10, 28)}",
        lambda: f"commit {rng.getrandbits(160):040x}",
        lambda: f"sha256:{rng.getrandbits(256):064x}",
        lambda: f"md5 {rng.getrandbits(128):032x} file.bin",
        lambda: f"Copyright (c) {n(1980, 1999)}-{n(2000, 2025)}, {n(2000, 2025)} The Authors",
        lambda: f"section {n(1, 20)}.{n(1, 20)}.{n(1, 9)} and 48 C.F.R. {n(200, 299)}.{n(100, 999)}-{d(4)}",
        lambda: f"{n(1, 28):02d}/{n(1, 12):02d}/{n(1950, 2025)} {n(0, 23):02d}:{n(0, 59):02d}:{n(0, 59):02d}",
        lambda: f"from {n(1, 28):02d}.{n(1, 12):02d}.{n(1950, 2025)} to {n(1, 28):02d}.{n(1, 12):02d}.{n(1950, 2025)}",
        lambda: f"{n(2000, 2025)}-{n(10, 12)}-{n(10, 28)}T{n(10, 23)}:{n(10, 59)}:{n(10, 59)}.{d(6)}Z",
        lambda: ",".join(f"{rng.gauss(0, 100):.4f}" for _ in range(6)),
        lambda: "\n".join(",".join(f"{rng.gauss(0, 100):+.6f}" for _ in range(4)) for _ in range(3)),
        lambda: "\n".join(" ".join(str(n(100, 999)) for _ in range(4)) for _ in range(3)),
        lambda: "\t".join(str(n(0, 10**7)) for _ in range(6)),
        lambda: ";".join(f"{rng.random():.8f}" for _ in range(5)),
        lambda: "\n".join(
            f"{n(1935, 1954)},{rng.gauss(400, 50):.1f},{rng.gauss(3000, 50):.1f},{n(1, 99)}" for _ in range(4)
        ),
        lambda: " ".join(f"{rng.gauss(0, 1):.5e}" for _ in range(4)),
        lambda: f"| mean | {rng.random():.4f} | {n(1000, 9999)} | {n(100000, 999999)} |",
        lambda: f"{n(1, 255)}.{n(0, 255)}.{n(0, 255)}.{n(0, 255)}:{n(1024, 65535)}",
        lambda: f"MAC {':'.join(f'{n(0, 255):02x}' for _ in range(6))}",
        lambda: f"id {'-'.join(f'{rng.getrandbits(4 * k):0{k}x}' for k in (8, 4, 4, 4, 12))}",
        lambda: f"Total: {n(1, 999)} {d(3)} {d(3)},{d(2)} EUR",
        lambda: f"about {n(1, 999)},{d(3)},{d(3)} rows and {n(1, 9)}.{d(3)}.{d(3)} words",
        lambda: f"Reference {d(2)}-{d(4)}-{d(2)}{rng.choice('ABCDEF')}",
        lambda: f"timestamp 17{d(8)} or 17{d(11)}",
        lambda: f"card number with a typing error {_grouped(wrong, 4, ' ')}",
        lambda: f"no account: {bad}",
        lambda: f"no account either: {_grouped(bad, 4, ' ')}",
        lambda: f"EAN 40{d(10)} 5",
        lambda: f"lat {n(-89, 89)}.{d(6)}, lon {n(-179, 179)}.{d(6)}",
        lambda: f"DOI 10.{n(1000, 9999)}/{d(4)}.{d(5)}",
        lambda: f"arXiv:{n(10, 25)}{n(10, 12)}.{d(5)}v2",
        lambda: f"pages {n(100, 400)}-{n(401, 999)}, vol. {n(1, 99)}({n(1, 12)})",
        lambda: f"{n(1, 99)}x{n(1, 99)}x{n(1, 99)} mm, {n(100, 999)} g",
        lambda: f"Act No. {n(1, 99)}-{d(3)} of {n(1, 28)} July {n(1950, 2020)}, art. {n(1, 99)}-{n(1, 9)}",
        lambda: f"Boston, MA {n(10000, 99999)}-{d(4)}",
        lambda: f"np.array([{', '.join(str(n(0, 255)) for _ in range(8))}])",
        lambda: f"x @ w.transpose({n(0, 3)}, {n(0, 3)}) and logo@{n(2, 3)}x.png",
        lambda: f"pip install tool@{n(1, 9)}.{n(0, 20)}.{n(0, 9)} or @scope/tool@^{n(1, 9)}.0.0",
        lambda: f"git clone git@github.com:example/tool{n(1, 99)}.git",
        lambda: f"The code is hosted at example.org since {n(1999, 2024)}",
        lambda: f"Look at www.example.com/{n(1, 99)} or meet us at the fair",
        lambda: f"0x{rng.getrandbits(64):016x} {rng.getrandbits(32):08x}",
        lambda: f"pi is 3.{d(30)}",
        lambda: f"Fig. {n(1, 9)}: {' '.join(f'{n(0, 99):02d}' for _ in range(7))}",
        lambda: f"SIRET {d(3)} {d(3)} {d(3)} {d(5)}",
        lambda: f"tweet 1{d(18)}",
        lambda: f"{n(1, 9)} 000 000 against {n(1, 9)} 500 000 inhabitants",
        lambda: f"scores {n(10, 99)}-{n(10, 99)}-{n(10, 99)} and {n(10, 99)}:{n(10, 99)}",
    ]
    return rng.choice(makers)()


BY_HAND = {
    4: {
        "email": ["alice dot wren at example dot ac dot uk", "⟦bob.lark@example.org⟧,", "carol_(at)_example.org", "d.heron@example.name",
                  "root@mail.example.net", "erin(dot)finch(at)example(dot)com", "ADA_WREN99@Example.CO.IN", "n°1.fan@example.fr"],
        "iban": ["IBAN-Nr.: ⟦DE89 3704 0044 0532 0130 00⟧", "GB29 NWBK 6016 1331 9268 19", "compte ⟦FR76-3000-6000-0112-3456-7890-189⟧",
                 "ch9300762011623852957", "BE68 5390 0754 7034", "NO93 8601 1117 947", "IBAN (NL) ⟦NL91 ABNA 0417 1643 00⟧"],
        "card": ["Amex ⟦3782-822463-10005⟧", "MasterCard: ⟦5555 5555 5555 4444⟧", "378282246310005", "6011.1111.1111.1117", "VISA⟦4012888888881881⟧",
                 "30569309025904", "3530 1113 3330 0000"],
        "phone": ["(0044) 20 7946 0958", "1-800-555-0199", "+49 (0) 30 / 901820", "06.12.34.56.78", "Tel ⟦(030) 90 18 20⟧", "+1 (212) 555-0147 ext 9",
                  "0800 123 4567", "0033 (0)1 42 00 00 99", "Ph ⟦02 9876 5432⟧", "011 44 20 7946 0958", "☎ ⟦01 42 00 00 99⟧"],
    },
    5: {
        "email": [
            "a.b@c.example.org", "alice.wren @ example . com", "bob-lark[at]example-site[dot]eu", "Carol.Heron@LISTS.example.EDU", "dan.finch%40example.net",
            "erin@example.community", "w_r_e_n@example.co.za", "ops@[198.51.100.7]", "lark AT example DOT net", "heron(AT)example(DOT)org",
            "swift<at>example.de", "tern -at- example -dot- com", "finch\u2060@example.ca", "ella@exemple.québec", "dan {at} cs.example.edu",
            "x@example.co", "crane*at*example.org", "ada.wren@\nexample.org", "ada\\_wren@example.org", "mara punkt voss ät example punkt de",
        ],
        "iban": [
            "FR14 2004 1010 0505 0001 3M02 606", "BE71 0961 2345 6769", "DK50 0040 0440 1162 43", "FI21 1234 5600 0007 85", "IT60X0542811101000000123456",
            "ES91 2100 0418 4502 0005 1332", "PT50 0002 0123 1234 5678 9015 4", "SE45 5000 0000 0583 9825 7466", "PL61 1090 1014 0000 0712 1981 2874",
            "IBAN: ⟦ch93 0076 2011 6238 5295 7⟧", "Konto ⟦AT61 1904 3002 3457 3201⟧ bei Heron", "LU28 0019 4006 4475 0000", "IE29 AIBK 9311 5212 3456 78",
            "NL91ABNA0417164300", "GB33BUKB20201555555555", "MT84 MALT 0110 0001 2345 MTLC AST0 01S", "SA03 8000 0000 6080 1016 7519", "GR16.0110.1250.0000.0001.2300.695",
            "TR33 0006 1005 1978 6457 8413 26", "DE89 370 400 44 0532 013 000",
        ],
        "card": [
            "4111 1111 1111 1111", "4242424242424242", "5105-1051-0510-5100", "3714 496353 98431", "6011 0009 9013 9424", "3566 0020 2036 0505",
            "Karte: ⟦4012 8888 8888 1881⟧ gültig bis 01/29", "carte bancaire n° ⟦5555.5555.5555.4444⟧", "my visa is ⟦4917610000000000⟧", "38520000023237", "3852-000002-3237",
            "6304 0000 0000 0000", "2223 0031 2200 3222", "3782-8224631-0005", "pan=⟦2222400070000005⟧", "4000\u00a00566\u00a05566\u00a05556", "6212 3456 7890 1232",
            "****⟦4539578763621486⟧", "6759 6498 2643 8453", "{'number': '⟦4556737586899855⟧'}",
        ],
        "phone": [
            "+44 (0)117 496 0123", "0161 496 0000", "(01632) 960 983", "+1-202-555-0173", "202.555.0173", "(202) 555-0173 x 44", "1 (202) 555 0173",
            "+33 (0)6 39 98 01 23", "06 39 98 01 23", "Tél. : ⟦01.99.00.12.34⟧", "+49 30 23125 123", "030 23125-123", "0711/2 19 90-0", "+41 44 668 18 00", "043 222 77 77",
            "+61 491 570 156", "0491 570 156", "(03) 7010 1234", "+81 3-3224-9999", "+55 (11) 96123-4567", "+39 06 698 82345", "Cell. ⟦347 555 01 23⟧", "+34 91 123 45 67",
            "Teléfono: ⟦91 123 45 67⟧", "+31 (0)20 794 0123", "020-794 0123", "070-174 06 05", "+46 (0)70 174 06 05", "+353 20 910 1234", "tel. ⟦22 555 01 23⟧", "+91 99999 12345",
        ],
    },
}  # fmt: skip


def sample(seed: int) -> list[dict]:
    rng = random.Random(seed)
    rows, seen = [], set()
    for kind, make in (("email", email), ("iban", iban), ("card", card), ("phone", phone)):
        values = list(BY_HAND.get(seed, {}).get(kind, ()))
        while len(values) < PER_KIND:
            values.append(make(rng))
        for written in values:
            value = written.partition("⟦")[2].partition("⟧")[0] or written  # the place itself, without its label
            carriers = [each for each in CARRIERS if '"' not in each] if '"' in written or "\n" in written else CARRIERS
            text = rng.choice(carriers).format(written.replace("⟦", "").replace("⟧", ""))
            if text not in seen:
                rows.append({"kind": kind, "value": value, "text": text})
                seen.add(text)
    negatives: dict[str, None] = {}
    while len(negatives) < NEGATIVES:
        negatives[negative(rng)] = None
    return rows + [{"kind": None, "value": None, "text": text} for text in negatives]


if __name__ == "__main__":
    chosen, path = sys.argv[1:]
    lines = [json.dumps(row, ensure_ascii=False) for row in sample(int(chosen))]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
