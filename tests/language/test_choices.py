"""Which samples of a data set a specification means: ``take``, ``skip``, ``shuffle``, ``indices``, ``per class``."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfcert.language import SpecError, load
from tfcert.language.spec.choice import ChoiceStep, at_most, chosen, needs_end, nothing_shared, only_take
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.parser import parse_module
from tfcert.language.text.printer import print_statement

SAMPLES = [(number, number % 3) for number in range(20)]
SPEC = """prop 1
model clf = keras("clf.keras")
dataset test = npz("test.npz"){data}
property p(x, y in test{asked}) {{ forall z in ball(x, linf, 1) in raw: argmax(clf(z)) == y }}
"""


def read(data: str = "", asked: str = ""):
    spec = load(SPEC.format(data=data, asked=asked), bound=["clf"])
    return spec.datasets["test"].choice, spec.properties["p"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("take 4", [0, 1, 2, 3]),
        ("skip 17", [17, 18, 19]),
        ("skip 2 take 3", [2, 3, 4]),
        ("take 3 skip 2", [2]),
        ("take 2 per class", [0, 1, 2, 3, 4, 5]),
        ("skip 1 take 1 per class", [1, 2, 3]),
        ("indices [7, 0, 19]", [7, 0, 19]),
        ("skip 5 indices [1]", [6]),
        ("skip 30", []),
    ],
)
def test_steps_are_taken_in_the_order_in_which_they_are_written(text, kept):
    for choice in (read(data=" " + text)[0], read(asked=" where y >= 0 " + text)[1].choice):
        assert [number for number, _ in chosen(choice, SAMPLES)] == kept


def test_choices_that_are_apart_have_no_sample_in_common():
    """Where it is told, it is so: a network is not trained on what it is judged by. Where it is not, it may be."""
    texts = ("", "take 4", "skip 4", "skip 3", "shuffle(1) take 5", "shuffle(1) skip 5 take 2", "shuffle(2) skip 5")
    choices = [read(data=" " + text)[0] for text in texts]
    told = [(a, b) for a, b in itertools.product(choices, repeat=2) if nothing_shared(a, b)]
    assert len(told) == 4
    for a, b in told:
        assert not {number for number, _ in chosen(a, SAMPLES)} & {number for number, _ in chosen(b, SAMPLES)}


def test_a_shuffle_follows_from_its_seed_and_loses_nothing():
    order = [number for number, _ in chosen(read(" shuffle(7)")[0], SAMPLES)]
    assert sorted(order) == list(range(20)) != order
    assert order == [number for number, _ in chosen(read(" shuffle(7)")[0], SAMPLES)]
    assert order != [number for number, _ in chosen(read(" shuffle(8)")[0], SAMPLES)]
    taken = chosen(read(" shuffle(7) take 2 per class")[0], SAMPLES)
    assert Counter(label for _, label in taken) == {0: 2, 1: 2, 2: 2}


STEPS = st.lists(
    st.one_of(
        st.builds(ChoiceStep, st.sampled_from(["take", "per class"]), st.integers(1, 8)),
        st.builds(ChoiceStep, st.just("skip"), st.integers(0, 8)),
        st.builds(ChoiceStep, st.just("shuffle"), st.integers(0, 3)),
        st.builds(
            ChoiceStep, st.just("indices"), st.just(0), st.lists(st.integers(0, 5), min_size=1, unique=True).map(tuple)
        ),
    ),
    max_size=4,
).map(tuple)


@given(STEPS)
def test_what_is_said_of_a_choice_without_reading_samples_is_so(steps):
    try:
        kept = list(chosen(steps, SAMPLES))
    except IndexError:
        return
    assert len(kept) <= at_most(steps, len(SAMPLES))
    assert set(kept) <= set(SAMPLES)
    assert len(set(kept)) == len(kept)
    if not needs_end(steps):
        endless = ((number, number % 3) for number in itertools.count())
        assert len(list(chosen(steps, endless))) >= len(kept)
    if only_take(steps) is not None:
        assert kept == SAMPLES[: only_take(steps)]


def test_an_index_beyond_the_samples_and_classes_without_labels_are_refused():
    with pytest.raises(IndexError, match="there is no sample 20: there are 20, counted from 0"):
        list(chosen(read(" indices [3, 20]")[0], SAMPLES))
    with pytest.raises(ValueError, match="cannot be taken per class"):
        list(chosen(read(" take 1 per class")[0], [(0, None)]))


@pytest.mark.parametrize("text", ["take 3 per class", "skip 2 take 3", "shuffle(4)", "indices [3, 1]", ""])
def test_a_choice_is_printed_as_it_is_read(text):
    text = f" {text}" if text else ""
    module = parse_module(SourceText("a.prop", SPEC.format(data=text, asked=text)), Diagnostics())
    _, data, question = map(print_statement, module.statements)
    assert data == f'dataset test = npz("test.npz"){text}'
    assert question.startswith(f"property p(x, y in test{text}) ")


def test_the_words_of_a_choice_are_names_elsewhere():
    text = SPEC.format(data="", asked="").replace("prop 1", "prop 1\nparam skip: int = 1\nparam shuffle: int = 2")
    assert load(text.replace("linf, 1)", "linf, skip * shuffle)"), bound=["clf"]).properties["p"].region.eps == 2


def test_columns_are_named_with_and_without_quotes_or_numbered():
    text = 'prop 1\ndataset people = csv("p.csv", x=[age, "the income", 3], label=grade)\n'
    options = dict(load(text, bound=["people"]).datasets["people"].options)
    assert options == {"x": ("age", "the income", 3), "label": "grade"}
    with pytest.raises(SpecError, match="names no column"):
        load(text.replace('age, "the income", 3', ""), bound=["people"])
