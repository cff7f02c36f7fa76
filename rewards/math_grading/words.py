"""Words beside and instead of mathematics: units, scales, number words, and what cannot be a unit."""

import re

_UNIT_SPELLINGS = {
    "cm": "centimeter centimetre centimeters centimetres cms",
    "mm": "millimeter millimetre millimeters millimetres",
    "km": "kilometer kilometre kilometers kilometres kms",
    "m": "meter metre meters metres",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards yds",
    "mi": "mile miles",
    "g": "gram grams",
    "kg": "kilogram kilograms kgs",
    "mg": "milligram milligrams",
    "lb": "pound pounds lbs",
    "oz": "ounce ounces",
    "l": "liter litre liters litres",
    "ml": "milliliter millilitre milliliters millilitres",
    "s": "second seconds sec secs",
    "min": "minute minutes mins",
    "h": "hour hours hr hrs",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years yr yrs",
    "dollar": "dollars usd bucks",
    "cent": "cents",
    "euro": "euros eur",
    "degree": "degrees deg",
    "rad": "radian radians",
    "%": "percent",
    "unit": "units",
    "hz": "hertz",
    "j": "joule joules",
    "n": "newton newtons",
    "w": "watt watts",
    "v": "volt volts",
    "k": "kelvin kelvins",
    "people": "persons person",
}
_CANONICAL = {spelling: unit for unit, spellings in _UNIT_SPELLINGS.items() for spelling in (unit, *spellings.split())}
BARE_UNITS = frozenset(
    (
        "cm mm km kg mg sq cu ft yd mi lb lbs oz ml mL mph kph kmh cms kms hr hrs sec secs mins yr yrs in min day days hour "
        "hours usd USD Hz kJ kW MHz GHz nm eV MeV rad deg cents mol atm Pa kPa"
    ).split()
)
"""Units that are read as such when they stand behind a number without \\text{}: "5 cm" is no product of c and m."""

UNIT_LETTERS = frozenset("msghlLJNWVAKCF")
"""What a unit in \\text{} begins with when it is a single letter or a formula: 5 \\text{ m/s}, but 2\\mathrm{e}."""

_COMPOUND = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h"}
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        (
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty"
        ).split()
    )
}

_TENS = {
    word: 10 * value for value, word in enumerate(("twenty thirty forty fifty sixty seventy eighty ninety").split(), start=2)
}

# Words that would change what the number says: negations, alternatives, conditions, arithmetic.
_NEVER_IN_A_UNIT = frozenset(
    (
        "or and not no nor is isnt it its are was be been am but if then else when while unless wrong right correct "
        "incorrect false true maybe perhaps possibly probably likely either neither both any all none some than less more "
        "fewer greater most least about approximately approx around almost nearly roughly under over above below between "
        "up down to from plus minus times divided multiplied by root square squared cube cubed factorial choose mod "
        "modulo base remainder pi e half halves third thirds quarter quarters fourth fourths fifth fifths tenth tenths "
        "hundredth hundredths thousandth thousandths power negative positive answer value solution cannot cant dont "
        "doesnt wont because since so therefore thus hence wait actually invalid excluding excluded never nope bad hmm "
        "rejected denied fails otherwise alternatively too high small rounded versus vs rest nothing pair pairs score "
        "gross ppm permille percentile double doubled triple tripled twice opposite inverse inverted reciprocal imaginary "
        "tau phi lakh crore bn mn mil kilo tens anything whatever something except instead rather also same other another "
        "i we you think guess believe sure unsure unknown infinity infinite"
    ).split()
)
_MAX_UNIT_WORDS = 4


def read_unit(text: str) -> str | None:
    """Return the unit that a text behind a number names, in one spelling; None when the text may be more than a unit.

    >>> read_unit("square centimeters"), read_unit("cm^2"), read_unit("miles per hour"), read_unit("apples")
    ('cm^2', 'cm^2', 'mi/h', 'apple')
    >>> read_unit("or 43"), read_unit("is wrong"), read_unit("squared")
    (None, None, None)
    """
    text = re.sub(r"[{}().,]|\\cdot|\*", " ", text).strip()
    text = re.sub(r"\s*\bper\b\s*|\s*/\s*", "/", text)
    text = re.sub(r"\s*\^\s*(-?[0-9])", r"^\1", text)
    words = text.replace("/", " / ").split()
    if not words or len(words) > 2 * _MAX_UNIT_WORDS or words[0] == "/":
        return None
    parts: list[str] = []
    power = ""
    for word in words:
        name, _, exponent = word.partition("^")
        folded = name.casefold()
        if folded in ("square", "sq", "cubic", "cu") and len(words) > 1:
            power = "^2" if folded in ("square", "sq") else "^3"
        elif folded in ("squared", "cubed") and parts and parts[-1] != "/":  # cm squared; "5 squared" has no unit
            parts[-1] += "^2" if folded == "squared" else "^3"
        elif folded == "/":
            parts.append("/")
        elif not name.isalpha() or not may_be_part_of_a_name(folded) or folded in NUMBER_WORDS:
            return None
        else:
            if folded in _COMPOUND:
                return _COMPOUND[folded] if len(words) == 1 else None
            canonical = _CANONICAL.get(folded, folded[:-1] if folded.endswith("s") and len(folded) > 3 else folded)
            parts.append(canonical + (f"^{exponent}" if exponent else power))
            power = ""
    return " ".join(parts).replace(" / ", "/") if parts and not power and parts[-1] != "/" else None


def may_be_part_of_a_name(word: str) -> bool:
    """Whether a word beside a number leaves the number as it is: no negation, scale, condition or arithmetic."""
    folded = word.casefold()
    return folded not in _NEVER_IN_A_UNIT and folded.removesuffix("s") not in SCALES and folded != "dozens"


def read_number_words(words: str) -> int | None:
    """Return the number that a folded text says, up to ninety-nine thousand; None when it is none.

    >>> read_number_words("forty two"), read_number_words("two hundred"), read_number_words("two three")
    (42, 200, None)
    """
    sign, _, positive = words.partition(" ")
    if sign in ("minus", "negative"):
        number = read_number_words(positive)
        return None if number is None else -number
    total, rest = 0, words.split()
    for scale in ("thousand", "hundred"):
        if scale in rest:
            count = _below_hundred(rest[: rest.index(scale)])
            if not count:
                return None
            total += count * SCALES[scale]
            rest = rest[rest.index(scale) + 1 :]
            if not rest:
                return total
    last = _below_hundred(rest)
    return None if last is None else total + last


def _below_hundred(words: list[str]) -> int | None:
    if len(words) == 2 and words[0] in _TENS and 1 <= NUMBER_WORDS.get(words[1], 0) <= 9:
        return _TENS[words[0]] + NUMBER_WORDS[words[1]]
    if len(words) == 1:
        return NUMBER_WORDS.get(words[0], _TENS.get(words[0]))
    return None


def fold(text: str) -> str:
    """Return a text's words in lower case, without LaTeX wrappers, punctuation and articles.

    >>> fold(r"\\text{The number is  Even}."), fold("Even")
    ('number is even', 'even')
    """
    text = re.sub(
        r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname|mathit|mathsf|emph)\s*\{([^{}]*)\}", r"\1", text
    )
    text = text.replace("\\ ", " ").replace("~", " ").replace("-", " ").casefold()
    words = re.sub(r"[\s.,;:!?\"'`$*]+", " ", text).split()
    while len(words) > 1 and words[0] in ("the", "a", "an"):
        words.pop(0)
    return " ".join(words)
