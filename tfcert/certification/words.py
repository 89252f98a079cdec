"""Sentences in which words may be replaced: sets of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from tfcert.catalog import method_name, with_fallback
from tfcert.certification.api import Certification
from tfcert.clauses import keeps_label
from tfcert.network.cache import network_of
from tfcert.network.keras.embedding import embedded, encoder
from tfcert.options import BoundOptions
from tfcert.propagation.question import labels_of
from tfcert.rigour.radius import CertifyingMethod, margins_of
from tfcert.sets.balls import Box
from tfcert.showing import ShownResult, counted
from tfcert.verdict import is_proof

_MOST = 100_000
"""Boxes that are made at most."""


@dataclass(frozen=True)
class Substitutions(ShownResult):
    """Sets of embeddings that enclose every way to replace words of some samples.

    Attributes:
        box: the sets; each sample has one, or one for every choice of the positions that change.
        owner: the sample of each set, in order.
    """

    box: Box
    owner: np.ndarray

    def __repr__(self) -> str:
        return f"Substitutions of {counted(int(self.owner.max(initial=-1)) + 1, 'sample')}: {self.box!r}"


def certify_words(
    model: Any,
    tokens: Any,
    y: Any,
    words: Mapping[int, Sequence[int]],
    *,
    changes: int | None = None,
    after: str | None = None,
    method: str = "crown",
    relaxation: str | None = None,
    options: BoundOptions | None = None,
) -> Certification:
    """Certifies that no sentence that replacing words makes of the given ones is taken for another class.

    Args:
        model, tokens, words, changes, after: as for :func:`substitutions`.
        y: labels, as for :func:`tfcert.certify`; ``method``, ``relaxation`` and ``options``, too.

    Returns:
        For each sample the least margin over its sets, and what rounding may take from it. A sample that is not
        verified need not have a sentence that is misclassified: sets hold more than sentences.

    Raises:
        ValueError, UnsupportedLayerError: as for :func:`tfcert.embedded`, :func:`substitutions` and
            :func:`tfcert.margins`.
    """
    tail, _ = embedded(model, tokens, after=after)
    sets = substitutions(model, tokens, words, changes=changes, after=after)
    method = method_name(method)
    network = network_of(tail, sets.box.lower)
    box = sets.box.astype(network.dtype.as_numpy_dtype)
    labels = labels_of(y, len(np.asarray(tokens)), network)
    clauses = keeps_label(labels[sets.owner], network.output_shape[-1])
    how = CertifyingMethod(method, with_fallback(relaxation, None), options)
    margin, lost = margins_of(network, box, clauses, how)
    surplus = np.where(np.isnan(margin), -np.inf, margin - lost)
    worst = [
        index[np.argmin(surplus[index])] for index in (np.flatnonzero(sets.owner == i) for i in range(len(labels)))
    ]
    margin, lost = margin[worst], lost[worst]
    found = how.guarantee(network, clauses)
    return Certification(is_proof(margin, lost), margin, found, method, relaxation or "adaptive", lost)


def substitutions(
    model: Any,
    tokens: Any,
    words: Mapping[int, Sequence[int]],
    *,
    changes: int | None = None,
    after: str | None = None,
) -> Substitutions:
    """The embeddings of every sentence that replacing words makes of the given ones, enclosed by boxes.

    :func:`certify_words` asks whether a model takes all of them for one class; for other questions,
    ``tfcert.embedded(model, tokens, after=after)`` is the model of these sets.

    Each position's box is the smallest that holds the embedding of the word that stands there and of those that may
    replace it. So every sentence is enclosed, and points that are no sentence are, too: what is proven of a box holds
    for its sentences, and a margin that is not positive says nothing (the method is that of interval bounds for word
    substitutions: Jia et al. 2019, section 3; the boxes serve any method of bounds).

    Args:
        model: the whole model.
        tokens: ids ``[samples, positions]``.
        words: for a token those that may stand in its place; others stay.
        changes: how many words may be replaced at once; None for any number. With ``n`` positions that may change, a
            sample has as many boxes as there are ways to choose ``changes`` of them.
        after: as for :func:`tfcert.embedded`.

    Raises:
        ValueError: tokens that are no whole numbers ``[samples, positions]``, a negative number of changes, more than
            100,000 boxes, or a cut behind which a position's numbers depend on words at others.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(f"tokens are whole numbers [samples, positions], not {ids.dtype} of shape {ids.shape}")
    if changes is not None and changes < 0:
        raise ValueError(f"changes must not be negative, not {changes!r}")
    lower, upper, given = _hulls(encoder(model, after), ids, words)
    free = [np.flatnonzero([any(w != t for w in words.get(int(t), ())) for t in row]) for row in ids]
    taken = [len(some) if changes is None else min(changes, len(some)) for some in free]
    count = sum(comb(len(some), number) for some, number in zip(free, taken, strict=True))
    if count > _MOST:
        raise ValueError(
            f"{changes} changes at once make {count} boxes, more than {_MOST}; leave changes out, or allow 1"
        )
    sets = [(i, chosen) for i, number in enumerate(taken) for chosen in combinations(free[i], number)]
    owner = np.array([i for i, _ in sets], np.int64)
    moved = np.zeros((len(sets), ids.shape[1]), bool)
    for row, (_, chosen) in zip(moved, sets, strict=True):
        row[list(chosen)] = True
    moved = moved.reshape(*moved.shape, *[1] * (given.ndim - 2))
    return Substitutions(Box(*(np.where(moved, end[owner], given[owner]) for end in (lower, upper))), owner)


def _hulls(
    encode: Any, ids: np.ndarray, words: Mapping[int, Sequence[int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least and the greatest embeddings at each position, and those of the tokens themselves."""
    given = encode(ids).numpy()
    if given.shape[:2] != ids.shape:
        raise ValueError(f"embeddings of shape {given.shape} are not one for each of the tokens, of shape {ids.shape}")
    lower, upper = given.copy(), given.copy()
    for turn in range(max((len(some) for some in words.values()), default=0)):
        other = {token: some[turn] for token, some in words.items() if turn < len(some)}
        replaced = np.vectorize(lambda token, other=other: other.get(int(token), token), otypes=[ids.dtype])(ids)
        everywhere = encode(replaced).numpy()
        _require_apart(encode, ids, replaced, given, everywhere)
        lower, upper = np.minimum(lower, everywhere), np.maximum(upper, everywhere)
    return lower, upper, given


def _require_apart(
    encode: Any, ids: np.ndarray, replaced: np.ndarray, given: np.ndarray, everywhere: np.ndarray
) -> None:
    """Requires that words move nothing but the numbers at their own position."""
    for position in range(ids.shape[1]):
        alone = ids.copy()
        alone[:, position] = replaced[:, position]
        wanted = given.copy()
        wanted[:, position] = everywhere[:, position]
        if not np.array_equal(encode(alone).numpy(), wanted):
            raise ValueError(
                f"what stands at position {position} moves numbers at others, too: cut the model directly behind its "
                "embeddings (after=...)"
            )
