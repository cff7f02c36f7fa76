"""An answer's text, before it is read: refuse what is too large, and write the same things in the same way."""

import re
import unicodedata

from rewards.math_grading.extraction import without_lead_in

MAX_CHARS = 1000
MAX_DEPTH = 30
"""Levels of brackets; a fair answer has fewer than 10, and each level costs a reader a few stack frames."""


class Refused(ValueError):
    """The text is too large, or made of characters that no answer has."""


_GREEK = {
    "αβγδεζηθικλμνξ": "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi",
    "πρστυφχψωϕϵϑ": "pi rho sigma tau upsilon phi chi psi omega phi epsilon theta",
    "ΓΔΘΛΞΠΣΦΨΩ": "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega",
}
_SYMBOLS = {
    "−‐‑‒–—﹣－": "-",
    "×✕∗": r"\times ",
    "·⋅∙•": r"\cdot ",
    "÷": "/",
    "⁄∕": "/",
    "∞": r"\infty ",
    "√": r"\sqrt ",
    "∛": r"\sqrt[3] ",
    "°º˚": r"\degree ",
    "≤⩽≦": r"\leq ",
    "≥⩾≧": r"\geq ",
    "≠": r"\neq ",
    "≈": r"\approx ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "∖": r"\setminus ",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}",
    "∫": r"\int ",
    "∑": r"\sum ",
    "∏": r"\prod ",
    "⟨〈": r"\langle ",
    "⟩〉": r"\rangle ",
    "⌊": r"\lfloor ",
    "⌋": r"\rfloor ",
    "⌈": r"\lceil ",
    "⌉": r"\rceil ",
    "∣｜": "|",
    "′’ʹ‘": "'",
    "“”„": '"',
    "，、": ",",
    "；": ";",
    "：∶": ":",
    "。": ".",
    "％﹪": r"\%",
    "€": r"\euro ",
    "£": r"\pounds ",
    "¥￥": r"\yen ",
    "∆": r"\Delta ",
    "µ": r"\mu ",
    "\u00a0\u2002\u2003\u3000\u2005\u2006\u2007\u2008": " ",
    "\u2009\u200a\u202f": r"\,",
    "\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u2061\u2062": "",
}
_TRANSLATION = str.maketrans(
    {character: written for characters, written in _SYMBOLS.items() for character in characters}
    | {letter: f"\\{name} " for letters, names in _GREEK.items() for letter, name in zip(letters, names.split(), strict=True)}
    | {
        # Not left to NFKC, which would turn x² into x2 and 3½ into 31/2.
        character: rf"\frac{{{numerator}}}{{{denominator}}}"
        for character, numerator, denominator in (
            "½12",
            "⅓13",
            "⅔23",
            "¼14",
            "¾34",
            "⅕15",
            "⅖25",
            "⅗35",
            "⅘45",
            "⅙16",
            "⅚56",
            "⅛18",
            "⅜38",
            "⅝58",
            "⅞78",
        )
    }
)
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎"
_RAISED = re.compile(f"[{_SUPERSCRIPTS}]+")
_LOWERED = re.compile(f"[{_SUBSCRIPTS}]+")
_FULL_WIDTH = re.compile("[\uff01-\uff5e\U0001d400-\U0001d7ff]")  # also the mathematical alphabets: 𝑥, 𝟒𝟐
_DROPPED = re.compile(
    r"\\(?:left|right)(?![A-Za-z])(?:\s*\.)?"
    r"|\\(?:[bB]ig+[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|mathstrut|strut|bf|rm|it|tiny|small|[lL]arge|LARGE"
    r"|huge|therefore|because)(?![A-Za-z])"
    r"|\\(?:text)?color\s*\{[A-Za-z]+\}"
    r"|\\(?:hspace|vspace|phantom|hphantom|vphantom|label|tag)\*?\s*\{[^{}]*\}"
)
_SPACED_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|,\s*\\!|\\[,!:;]|\\ |~|\{,\s\})\s*(?=[0-9]{3}(?![0-9]))")
_SPACING = re.compile(r"(?<!\\)\\[,!:;> ]|\\(?:quad|qquad|enspace|thinspace|nobreakspace)(?![A-Za-z])|~|\\\n")
_DEGREE = re.compile(
    r"\^\s*(?:\{\s*\\(?:circ|degree)\s*\}|\\(?:circ|degree)(?![A-Za-z]))|\\(?:degrees?|textdegree)(?![A-Za-z])|\\circ(?=\s*(?:\\text|\\mathrm)?\s*\{?\s*[CF]\b|\s*$)"
)
_COMMANDS = {
    f"\\{written}": meant
    for meant, spellings in {
        r"\frac": "dfrac tfrac cfrac nicefrac sfrac",
        r"\binom": "dbinom tbinom",
        r"\leq": "le leqslant leqq",
        r"\geq": "ge geqslant geqq",
        r"\neq": "ne",
        "<": "lt",
        ">": "gt",
        "*": "ast star",
        "/": "div",
        "|": "lvert rvert vert",
        ":": "colon",
        "'": "prime",
        "[": "lbrack",
        "]": "rbrack",
        "(": "lparen",
        ")": "rparen",
        r"\{": "lbrace",
        r"\}": "rbrace",
        r"\%": "percent",
        r"\langle": "lang",
        r"\rangle": "rang",
        r"\emptyset": "varnothing",
        r"\phi": "varphi",
        r"\epsilon": "varepsilon",
        r"\theta": "vartheta",
        r"\setminus": "backslash smallsetminus",
        r"\ldots": "dots cdots dotsc dotsb",
        r"\cup": "bigcup",
        r"\cap": "bigcap",
        r"\infty": "infin",
        r"\mathbb{R}": "R Reals reals",
        r"\text{and}": "land wedge",
        r"\text{or}": "lor vee",
    }.items()
    for written in spellings.split()
}
_COMMAND = re.compile(r"\\[A-Za-z]+")
_MATH_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]")
_TEXT_LEAD_IN = re.compile(
    r"^\\text\s*\{\s*(?:so\s+)?(?:the\s+)?(?:final\s+)?(?:answer|total)\s*(?:is)?\s*:?\s*\}\s*", re.IGNORECASE
)
# (what must be there, pattern, how the parser knows it)
_OTHER_SPELLINGS = (
    ("10", re.compile(r"(?<=[0-9])\s*[xX]\s*10\s*\^"), r"\\times 10^"),  # 1.5 x 10^3, as it is typed without LaTeX
    ("text", re.compile(r"\\text\s*\{[\s.,;]*\}\s*$"), ""),
    ("U", re.compile(r"\)\s*U\s*(?=[(\[])"), r") \\cup "),
    ("bb", re.compile(r"\\(?:mathbb|Bbb)\s*R(?![A-Za-z])|\\Bbb\s*\{R\}"), r"\\mathbb{R}"),
    ("{", re.compile(r"([(\[]|\\\{)\s*\{([^{}]*,[^{}]*)\}\s*([)\]]|\\\})"), r"\1\2\3"),  # ( {1,2} )
    ("]", re.compile(r"^\]([^\[\],]+),([^\[\],]+)\[$"), r"(\1,\2)"),  # French intervals
    ("[", re.compile(r"^\[([^\[\],]+),([^\[\],]+)\[$"), r"[\1,\2)"),
    ("]", re.compile(r"^\]([^\[\],]+),([^\[\],]+)\]$"), r"(\1,\2]"),
    ("C", re.compile(r"(?<![A-Za-z])C\s*\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)"), r"\\binom{\1}{\2}"),
    ("C_", re.compile(r"(?:\{\})?_\{?([0-9]+)\}?\s*C_\{?([0-9]+)\}?"), r"\\binom{\1}{\2}"),
    ("C_", re.compile(r"(?<![A-Za-z])C_\{?([0-9]+)\}?\^\{?([0-9]+)\}?"), r"\\binom{\1}{\2}"),
    ("^", re.compile(r"(?<=[0-9])\^\s*\{?\s*(?:o|\\text\s*\{o\})\s*\}?$"), r"\\degree "),
    ("degree", re.compile(r"\\degree\s*(?:\\(?:text|mathrm)\s*)?\{?\s*([CF])\}?$"), r"\\text{ degree \1}"),
    ("^", re.compile(r"([)\]]|\\end\{[a-z]*matrix\})\s*\^\s*\{?\s*(?:T|\\top|\\mathsf\{T\})\s*\}?$"), r"\1"),
)
_ROW_SPACING = re.compile(r"\\\\\s*\[[0-9.]+\s*[a-z]{2}\]")
_DOLLAR = re.compile(r"\\?\$\s*(?=[0-9.])")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|bm|boldsymbol)\s*\{([^{}]*)\}|\*\*([^*]+)\*\*|`([^`]+)`"
)


def normalize(text: str) -> str:
    """Return the text with one spelling for each notation; raise `Refused` for what no answer looks like.

    >>> normalize("$\\\\left( 1{,}000 , \\\\dfrac{x²}{2}\\\\right)$.")
    '( 1000 , \\\\frac{x^{2}}{2} )'
    >>> normalize("－３ × π")
    '-3 \\\\times  \\\\pi'
    """
    if len(text) > MAX_CHARS:
        raise Refused(f"longer than {MAX_CHARS} characters")
    if not text.isascii():
        text = _to_ascii_notation(text)
    if any(not character.isprintable() and character not in " \t\r\n" for character in text):
        raise Refused("has characters that cannot be printed")
    text = text.strip()
    text = _unwrapped(text)
    if "\\" in text:
        text = _DROPPED.sub(" ", text)
        text = _MATH_DELIMITERS.sub(" ", _ROW_SPACING.sub(r"\\\\", text))
    if "$" in text:
        text = _without_dollars(text)
    if "\\" in text or "~" in text or "{,}" in text:
        text = _SPACED_THOUSANDS.sub("", text)
        text = _DEGREE.sub(r"\\degree ", text)
        text = _SPACING.sub(" ", text).rstrip("\\ \t\n")
        text = _COMMAND.sub(lambda match: _COMMANDS.get(match[0], match[0]), text)
    text = text.strip()
    for needle, pattern, written in _OTHER_SPELLINGS:
        if needle in text:
            text = pattern.sub(written, text)
    text = re.sub(r"^(?::|\\(?:Rightarrow|implies|Longrightarrow|to)(?![A-Za-z]))\s*", "", text.strip())
    text = without_lead_in(_TEXT_LEAD_IN.sub("", text))
    return _without_final_punctuation(_unwrapped(_without_final_punctuation(text)))


def _unwrapped(text: str) -> str:
    """Take off what stands around all of it: \\text{...}, \\boxed{...}, **...**."""
    for _ in range(MAX_DEPTH):
        wrapped = _WRAPPED.fullmatch(text) or _BOXED.fullmatch(text)
        if wrapped is None:
            break
        text = wrapped[wrapped.lastindex or 0].strip()
    return text


def _to_ascii_notation(text: str) -> str:
    if any(unicodedata.category(character) in ("Cs", "Co") for character in text):
        raise Refused("has a lone surrogate or a private character")
    text = _RAISED.sub(lambda match: "^{" + unicodedata.normalize("NFKC", match[0]).replace("\u2212", "-") + "}", text)
    text = _LOWERED.sub(lambda match: "_{" + unicodedata.normalize("NFKC", match[0]).replace("\u2212", "-") + "}", text)
    text = text.translate(_TRANSLATION)
    text = _FULL_WIDTH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    # Once more for what NFKC has brought to light, the Greek of the mathematical alphabets.
    return text.translate(_TRANSLATION)


def _without_dollars(text: str) -> str:
    """Take off math delimiters, and name the currency: "$5$" is 5, "\\$5" and "$5" are 5 dollars."""
    text = text.replace(r"\$", r"\dollar ")
    if text.count("$") % 2:
        text = _DOLLAR.sub(r"\\dollar ", text, count=1)
    return text.replace("$", " ")


def _without_final_punctuation(text: str) -> str:
    stripped = text.rstrip(".,;:? \t\n") if not text.endswith("...") else text
    # 5! is a factorial and 3. a number with a full stop; a text of nothing but punctuation stays as it is.
    return stripped or text
