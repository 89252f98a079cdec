"""Problems of a specification: what is wrong, where, and what would be right.

Every problem has a code from ``CODES``; a load reports all the problems it can find at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

CODES: dict[str, str] = {
    "E001": "the text is too long",
    "E002": "the text has too many words and signs",
    "E003": "brackets or operators are nested too deeply",
    "E004": "a number is too large or too long to be kept exact",
    "E005": "the text is not UTF-8 or holds a control character",
    "E006": "definitions, loops or templates are expanded too often or too deeply",
    "E007": "a file cannot be read",
    "E101": "the text does not follow the grammar",
    "E102": "the version of the language is not known",
    "E201": "a name is not known",
    "E202": "a name is defined twice",
    "E203": "a region has no space, but the spaces differ",
    "E204": "a name stands for another kind of thing",
    "E205": "a construct has too many or too few arguments",
    "E206": "an expression has the wrong type",
    "E207": "a quantity has the wrong unit",
    "E208": "a region is unbounded",
    "E209": "a region or an interval is empty",
    "E210": "an expression is not linear in the quantified variables and outputs",
    "E211": "quantifiers alternate",
    "E212": "a granularity is below two eps",
    "E213": "a stage cannot handle this norm",
    "E214": "a formula expands to too many clauses",
    "E215": "an assertion rests on a strategy that can never prove it",
    "E216": "a parameter is outside its interval",
    "E217": "a parameter has no value",
    "E218": "a stage is not known",
    "E219": "an option is not known",
    "E220": "a value is not one of those accepted",
    "E221": "a path leads outside the folder of the specification",
    "E222": "a file does not exist",
    "E223": "specifications import each other",
    "E224": "an index is outside the outputs or inputs",
    "E225": "a division by zero",
    "E226": "inputs would be normalised twice, or in two ways",
    "E227": "a coefficient has no exact floating-point row",
    "E228": "a measure asks for a radius that is an end of its interval whatever the network",
    "E229": "an objective is for something that certified training does not cover",
    "E230": "an objective has no samples to train on",
    "E231": "the samples to train on reach the network in another way than those held out",
    "E232": "a class is asked of a network with a single output",
    "E233": "a formula is true or false whatever the network computes",
    "E236": "a pixel or a share of the range has no known range",
    "E237": "values are not in [0, 1] in the unit space",
    "E246": "a word of the language, or a text that is no name, is used as a name",
    "E247": "a number is beyond those that can be computed with",
    "E248": "a path leads to something else than a regular file",
    "E249": "models of this format cannot be read",
    "E250": "values of data sets that are joined mean different things",
    "E251": "a region has too many pieces",
    "E252": "regions are joined in a way that nothing can decide",
    "E253": "inputs are transformed, and only regions of inputs can be asked about",
    "E260": "a template is asked with something else than it takes",
    "E261": "a loop goes through something else than a list of values or names",
    "E262": "a statement cannot stand inside a loop",
    "E263": "what is expected to fail is judged in another way",
    "E264": "the specification needs another version of tfcert",
    "E270": "a measure is not monotone in its variable",
    "E271": "a share of volume is of something else than a box",
    "W001": "an equality between numbers can be refuted but never proven",
    "W002": "a ball covers the whole range of values",
    "W003": "an accuracy is compared with a number that is no fraction",
    "W004": "a network is trained on the samples that it is judged by",
    "W005": "a schedule reaches beyond the end of the training",
    "W006": "nothing is abstracted by an abstraction",
    "W007": "values lie outside the range of an abstraction",
    "W010": "a radius is a tiny share of the range",
    "W011": "an import holds questions that nothing asks",
    "W012": "a percentile is below the first",
    "W013": "a question is the same for every sample",
    "W014": "an assertion says nothing about the results",
    "W020": "a template is asked with no values",
}
"""Every code a diagnostic may carry, with what it means."""


@dataclass(frozen=True)
class SourceText:
    """One specification as text, with the name under which it is reported."""

    filename: str
    text: str = field(repr=False)

    def line(self, number: int) -> str:
        """The line with that number (from 1), without its end."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


@dataclass(frozen=True)
class Span:
    """A stretch of text. Lines and columns count from 1; ``end_column`` is one past the last character."""

    line: int = 1
    column: int = 1
    end_line: int = 1
    end_column: int = 1

    def to(self, other: Span) -> Span:
        """From the start of this span to the end of the other."""
        return replace(self, end_line=other.end_line, end_column=other.end_column)


@dataclass(frozen=True)
class Diagnostic:
    """One problem: its code, what was wrong, where, and what would be right.

    ``note`` says of which instance of a template or turn of a loop, the first of those that have the same problem.
    """

    code: str
    message: str
    span: Span
    source: SourceText
    fix: str = ""
    note: str = field(default="", compare=False)

    @property
    def is_error(self) -> bool:
        """Tells whether the specification cannot be used."""
        return self.code.startswith("E")

    @property
    def line(self) -> int:
        """Line of the first character, from 1."""
        return self.span.line

    @property
    def column(self) -> int:
        """Column of the first character, from 1."""
        return self.span.column

    def render(self) -> str:
        """The message with the source line and carets, as it is shown to the user."""
        level = "error" if self.is_error else "warning"
        lines = [f"{level}[{self.code}]: {self.message}"]
        lines.append(f"  --> {self.source.filename}:{self.line}:{self.column}")
        text = self.source.line(self.line)
        start = min(self.column - 1, len(text))
        end = self.span.end_column - 1 if self.span.end_line == self.line else len(text)
        shown, start, end = _window(text, start, end)
        gutter = f"{self.line} | "
        carets = "^" * max(1, end - start)
        lines.append((gutter + _visible(shown)).rstrip())
        lines.append((" " * (len(gutter) - 2) + "| " + " " * start + carets + " " + self.fix).rstrip())
        lines += [" " * (len(gutter) - 2) + "= " + self.note] if self.note else []
        return "\n".join(lines)


_WIDTH = 160


def _window(text: str, start: int, end: int) -> tuple[str, int, int]:
    """Cut a very long line to what surrounds the problem."""
    if len(text) <= _WIDTH:
        return text, start, min(end, len(text))
    first = max(0, start - _WIDTH // 4)
    shown = text[first : first + _WIDTH]
    return shown, start - first, min(end - first, len(shown))


def _visible(text: str) -> str:
    """One printable column per character, so that the carets stand under what they mean."""
    return "".join(c if c.isprintable() else " " for c in text)


class SpecError(ValueError):
    """A specification that cannot be used, with everything that is wrong with it.

    Attributes:
        diagnostics: all errors and warnings, in the order of the text.
    """

    def __init__(self, diagnostics: tuple[Diagnostic, ...]):
        self.diagnostics = diagnostics
        super().__init__(self.render())

    def render(self) -> str:
        """All diagnostics as text, one paragraph each."""
        return "\n\n".join(d.render() for d in self.diagnostics)


class AbortError(Exception):
    """Raised after a diagnostic was recorded, to leave the construct that cannot be understood further."""


class TooManyProblemsError(Exception):
    """Raised when so many errors were recorded that looking for more is of no use."""


class Diagnostics:
    """Collects what is found wrong in one run; identical findings are kept once.

    Warnings beyond ``LIMIT`` are left out. Errors end the search at ``LIMIT``, and at ``MOST`` with repeated ones: to
    find a name like a misspelt one takes time, and a hostile text may hold very many.

    Attributes:
        reported: errors so far, repeated ones included.
    """

    LIMIT = 100
    MOST = 1000

    def __init__(self) -> None:
        self._found: dict[Diagnostic, None] = {}
        self._errors = self._warnings = 0
        self.reported = 0

    def add(self, code: str, message: str, span: Span, source: SourceText, fix: str = "", note: str = "") -> None:
        """Record one problem.

        Raises:
            TooManyProblemsError: after the last error that is worth showing.
        """
        if code not in CODES:
            raise KeyError(code)
        found = Diagnostic(code, message, span, source, fix, note)
        if found not in self._found and (found.is_error or self._warnings < self.LIMIT):
            self._found[found] = None
            self._errors += found.is_error
            self._warnings += not found.is_error
        self.reported += found.is_error
        if self._errors >= self.LIMIT or self.reported >= self.MOST:
            raise TooManyProblemsError

    @property
    def failed(self) -> bool:
        """Tells whether any error (not only warnings) was found."""
        return self._errors > 0

    def sorted(self) -> tuple[Diagnostic, ...]:
        """Everything found, in the order of the text, file by file in the order they were first reported."""
        files = list(dict.fromkeys(d.source.filename for d in self._found))
        return tuple(sorted(self._found, key=lambda d: (files.index(d.source.filename), d.line, d.column, d.code)))

    def errors(self) -> SpecError:
        """Everything found as an exception."""
        return SpecError(self.sorted())

    def warnings(self) -> tuple[Diagnostic, ...]:
        """The findings that do not prevent use."""
        return tuple(d for d in self.sorted() if not d.is_error)
