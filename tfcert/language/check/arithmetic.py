"""Arithmetic of the language: sums, products and powers of what their operands stand for, exactly."""

from __future__ import annotations

from fractions import Fraction

from tfcert.language.check.declared import output_names
from tfcert.language.check.evaluator import Evaluator
from tfcert.language.check.values import (
    MAX_BITS,
    MIXED,
    NUMBERS,
    Inputs,
    Meaning,
    Numeric,
    Outputs,
    describe,
    product_unit,
    sum_unit,
    within_bounds,
)
from tfcert.language.spec.formula import (
    Atom,
    Nested,
    Output,
    Radius,
    SampleOutput,
    Term,
    Variable,
    is_given,
    product_of_given,
    variable_term,
)
from tfcert.language.spec.named import variables
from tfcert.language.text import syntax as s
from tfcert.language.text.names import written

ONE = Term((), Fraction(1))
_PARTS = "the base of a power", "an exponent"
MAX_EXPONENT, MAX_POWER = 400, 8
"""The largest exponent of a constant, and of a number of the sample."""
MAX_FACTORS = 4096
"""Factors of a product with numbers of the sample, once it is written out."""


def bounded(e: Evaluator, number: Fraction, node: s.SyntaxNode) -> Fraction:
    """The number, if it is small enough to go on exactly."""
    if not within_bounds(number):
        raise e.scope.problem("E004", "this number is too large or too long to be kept exact", node)
    return number


def sum_of(e: Evaluator, chain: s.Chain) -> Numeric:
    """The exact sum of a chain of ``+`` and ``-``, with its unit."""
    sums: dict[Variable, Fraction] = {}
    constant, unit = Fraction(0), None
    for operator, operand in zip(("+", *chain.operators), chain.operands, strict=True):
        part = _operand(e, operand, "a part of a sum")
        joined = part.unit if unit is None else sum_unit(unit, part.unit)
        if joined is None:
            raise e.scope.problem(
                "E207", f"{describe(Numeric(Term(), unit or ''))} and {describe(part)} cannot be added", operand
            )
        unit = joined
        sign = 1 if operator == "+" else -1
        constant = bounded(e, constant + sign * part.term.constant, chain)
        for variable, coefficient in part.term.coefficients:
            sums[variable] = bounded(e, sums.get(variable, Fraction(0)) + sign * coefficient, chain)
    return Numeric(Term(tuple((v, c) for v, c in sums.items() if c), constant), unit or "")


def product_of(e: Evaluator, chain: s.Chain) -> Numeric:
    """The exact product of a chain of ``*`` and ``/``, with its unit; one factor may vary with the input."""
    # Constants first, the one factor that varies last: a long chain costs no more than its length.
    scale: Numeric | None = None
    varying = ONE
    for operator, operand in zip(("*", *chain.operators), chain.operands, strict=True):
        factor = _operand(e, operand, "a factor")
        if not factor.term.is_constant:
            varying, factor = _varying(e, operator, (varying, factor.term), operand), Numeric(ONE, factor.unit)
        if scale is not None:
            factor = (_times if operator == "*" else _over)(e, scale, factor, operand)
        scale = factor
        bounded(e, scale.term.constant, chain)
    assert scale is not None
    product = varying.times(scale.term.constant)
    for _, number in (*product.coefficients, (None, product.constant)):
        bounded(e, number, chain)
    # A share of something that varies is a share of that.
    share_of_it = varying is not ONE and scale.unit in ("%", MIXED)
    return Numeric(product, "" if share_of_it else scale.unit)


def _varying(e: Evaluator, operator: str, factors: tuple[Term, Term], node: s.Expr) -> Term:
    """The product of two factors, of which one is a constant or what the sample gives; none that varies divides."""
    if operator == "/":
        raise e.scope.problem("E210", "this divides by a quantity that varies", node, "divide by a constant")
    known, other = factors if is_given(factors[0]) else factors[::-1]
    if known is ONE:
        return other
    if not is_given(known):
        message = "this multiplies two quantities that both vary"
        raise e.scope.problem("E210", message, node, "a factor must be a constant, or a number of the sample")
    product = product_of_given(known, other)
    if sum(v.size for v, _ in product.coefficients if isinstance(v, Nested)) > MAX_FACTORS:
        raise e.scope.problem("E210", f"written out, this product has more than {MAX_FACTORS} factors", node)
    if any(isinstance(v, Radius) for v in variables(Atom(other, False))):
        message = "before a measure's variable the sign of a number of the sample changes the meaning"
        raise e.scope.problem("E210", message, node, "divide the other side of the comparison by it")
    return product


def power_of(e: Evaluator, chain: s.Chain) -> Numeric:
    """The exact power of a number with a constant exponent, or of a number of the sample with a whole one."""
    base, exponent = (_operand(e, operand, what) for operand, what in zip(chain.operands, _PARTS, strict=True))
    if not exponent.term.is_constant or exponent.unit:
        raise e.scope.problem("E210", "an exponent is a plain constant", chain.operands[1])
    if base.unit not in NUMBERS or base.unit == "deg":
        raise e.scope.problem("E207", f"{describe(base)} has no powers", chain.operands[0])
    power, term = exponent.term.constant, base.term
    if term.is_constant:
        return Numeric(Term((), _power(e, term.constant, power, chain)))
    if power.denominator != 1 or not 1 <= power <= MAX_POWER:
        message = f"the power of a number of the sample is a whole one from 1 to {MAX_POWER}"
        raise e.scope.problem("E210", message, chain.operands[1])
    found = term
    for _ in range(int(power) - 1):
        found = _varying(e, "*", (found, term), chain)
    return Numeric(found)


def _power(e: Evaluator, base: Fraction, power: Fraction, node: s.Expr) -> Fraction:
    if base == 0 and power < 0:
        raise e.scope.problem("E225", "this divides by zero", node)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(power.numerator)
    if abs(power.numerator) > MAX_EXPONENT or power.denominator > MAX_EXPONENT or bits > 2 * MAX_BITS:
        raise e.scope.problem("E004", "this number is too large or too long to be kept exact", node)
    whole = bounded(e, base**power.numerator, node)
    ends = [_root(number, power.denominator) for number in (whole.numerator, whole.denominator)]
    if None in ends:
        message = "this root is no fraction, and numbers are kept exact"
        raise e.scope.problem("E004", message, node, "write a decimal number, as exact as you need it")
    return Fraction(*ends)  # type: ignore[arg-type]


def _root(number: int, degree: int) -> int | None:
    """The whole number whose power is another, or None."""
    if degree == 1:
        return number
    if number < 0:
        return None
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= number else (low, middle - 1)
    return low if low**degree == number else None


def _operand(e: Evaluator, operand: s.Expr, what: str) -> Numeric:
    value = number_of(e, e.value(operand), operand)
    if isinstance(value, Inputs):
        fix = "put what is computed of inputs into the model, and quantify over a `ball` or `box` of its inputs"
        raise e.scope.problem("E253", "inputs are not transformed in a formula", operand, fix)
    if not isinstance(value, Numeric):
        raise e.scope.problem("E206", f"{what} must be a number; this is {describe(value)}", operand)
    return value


def _times(e: Evaluator, a: Numeric, b: Numeric, node: s.Expr) -> Numeric:
    unit = product_unit(a.unit, b.unit)
    if unit is None:
        raise e.scope.problem("E207", f"{describe(a)} and {describe(b)} cannot be multiplied", node)
    _divides_pixels(e, a if a.unit == "px" else b, b if a.unit == "px" else a, node)
    return Numeric(a.term.times(b.term.constant), unit)


def _over(e: Evaluator, a: Numeric, b: Numeric, node: s.Expr) -> Numeric:
    if b.term.constant == 0:
        raise e.scope.problem("E225", "this divides by zero", node)
    unit = "" if a.unit == b.unit else product_unit(a.unit, b.unit) if b.unit in ("", "%", MIXED) else None
    if unit is None:
        raise e.scope.problem("E207", f"{describe(a)} cannot be divided by {describe(b)}", node)
    _divides_pixels(e, a, Numeric(Term((), 1 / b.term.constant), b.unit), node)
    return Numeric(a.term.times(1 / b.term.constant), unit)


def _divides_pixels(e: Evaluator, pixels: Numeric, factor: Numeric, node: s.Expr) -> None:
    """Refuses pixels over 255: a pixel is that step already."""
    if pixels.unit == "px" and factor.unit == "" and factor.term.constant in (Fraction(1, 255), Fraction(1, 256)):
        message = "a pixel is a 255th of the range already: this would be a 255th of a pixel"
        raise e.scope.problem("E207", message, node, "write `8px` or `8/255`, not `8px/255`")


def number_of(e: Evaluator, value: Meaning, node: s.Expr) -> Meaning:
    """All outputs of a network taken for a number, where it has a single one; any other value as it is.

    How many there are is known where they have names, and else when the network is loaded.
    """
    if not isinstance(value, Outputs):
        return value
    names = output_names(value.model)
    if len(names) > 1:
        message = f"`{value.model.full_name}` has {len(names)} outputs, and is taken for a number"
        fix = f"write which, `[{written(names[0])}]`, `max(...)` or `min(...)` for all, or `argmax(...)` for the class"
        raise e.scope.problem("E206", message, node, fix)
    only = SampleOutput(0, value.of, True) if value.fixed else Output(0, value.of, True)
    return Numeric(variable_term(only))
