"""Parts of models: one of several outputs, ``clf.head("steer")(z)`` or ``clf(z).steer``, and a hidden layer's values.

Each is a model of its own, made of the declared one: ``clf.steer``, ``clf.layer.dense_2``.
"""

from __future__ import annotations

from tfcert.language.check.declared import listed_places
from tfcert.language.check.evaluator import Evaluator
from tfcert.language.check.scope import Definition, Piece
from tfcert.language.text import syntax as s

PIECES = ("head", "layer")
"""What a part of a model may be."""


def called_part(e: Evaluator, node: s.CalledPart) -> tuple[Definition, s.Call]:
    """The model that ``clf.head("steer")`` or ``clf.layer("dense_2")`` is, and the call of it."""
    *of, word = node.function.function.parts
    arguments = node.function.arguments
    if not of or word not in PIECES:
        fix = 'what is applied twice is a part of a model: `clf.head("steer")(z)` or `clf.layer("dense_2")(z)`'
        raise e.scope.problem("E206", "a result cannot be applied to anything", node.function, fix)
    found = e.scope.find(s.Ref(tuple(of), node.function.function.quoted, span=node.function.function.span), ("model",))
    if len(arguments) != 1 or arguments[0].name is not None or not isinstance(arguments[0].value, s.Text):
        message = f"`{word}` takes the name of {'an output' if word == 'head' else 'a layer'} in quotes"
        raise e.scope.problem("E205", message, node.function, f'write `{found.full_name}.{word}("...")`')
    part = part_of(found, word, arguments[0].value, arguments[0].value.value)
    return part, s.Call(s.Ref((part.full_name,), span=node.function.span), node.arguments, span=node.span)


def named_part(e: Evaluator, node: s.OutputPart) -> tuple[Definition, s.Call]:
    """The model that ``clf(z).steer`` is about, and the call of it."""
    found = e.scope.find(node.base.function, ("model",))
    part = part_of(found, "head", node.name, node.name.text)
    return part, s.Call(s.Ref((part.full_name,), span=node.base.function.span), node.base.arguments, span=node.span)


def part_of(found: Definition, word: str, name: s.SyntaxNode, text: str) -> Definition:
    """A part of a model as a model of its own, made once; whether there is such a part is known when it is loaded."""
    own = f"{found.name}.{text}" if word == "head" else f"{found.name}.layer.{text}"
    known = found.scope.definitions.get(own)
    if known is None:
        listed = {"outputs": dict[str, int](), "inputs": listed_places(found, "inputs")}
        known = Definition("model", own, found.scope, None, listed=listed, part=Piece(found, word, text, name))
        found.scope.definitions[own] = known
    return known
