"""Objectives: what their templates say, and what stands in them where nothing was written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from language_specs import codes

from tfcert.language import CosineRate, LearningRate, Named, ObjectiveTemplate, RampSpec, StageSpec, load, load_file
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.parser import parse_module
from tfcert.language.text.printer import print_module

HEAD = """prop 1
param eps: real = 8/255
model clf = keras("clf.keras")
dataset test = mnist5k(split="test") take 500 { range: [0, 255] scale: 1/255 normalize: { mean: 0.1307 std: 0.3081 } }
property robust(x, y in test) { forall z in ball(x, linf, eps) within [0, 1] in unit: argmax(clf(z)) == y }
"""


def objective(block: str, head: str = HEAD) -> ObjectiveTemplate:
    """The template of ``objective o for robust { block }``."""
    loaded = load(f"{head}objective o for robust {{ {block} }}\n")
    return loaded.objectives["o"]


def test_every_option_is_in_the_template() -> None:
    found = objective(
        "bound: constrained_ibp(weight=2, layers=hidden, reduction=sum) eps: ramp(0 -> eps, epochs 10..60, smooth) "
        "natural_weight: ramp(1 -> 0.25, steps 100..900) eps_factor: 1.1 regularize: [tightness(weight=0.5), "
        "relu_balance] batch_norm: moving initialize: ibp epochs: 70 batch: 64 seed: 3 optimizer: sgd(momentum=0.9, "
        "nesterov=true) learning_rate: decay(0.1, factor=0.5, epochs=[60, 65]) verify: crown_ibp "
        "verify_every: 5 attack: pgd(steps=7)"
    )
    assert found.bound == Named(
        "constrained_ibp", (("weight", Fraction(2)), ("layers", "hidden"), ("reduction", "sum"))
    )
    assert found.eps == RampSpec(Fraction(0), Fraction(8, 255), Fraction(10), Fraction(60), "epochs", "smooth")
    assert found.natural_weight == RampSpec(Fraction(1), Fraction(1, 4), Fraction(100), Fraction(900), "steps")
    assert found.regularizers == (Named("tightness", (("weight", Fraction(1, 2)),)), Named("relu_balance"))
    assert (found.eps_factor, found.batch_norm, found.initialize) == (Fraction(11, 10), "moving", "ibp")
    assert (found.epochs, found.batch, found.seed) == (70, 64, 3)
    assert found.optimizer == Named("sgd", (("momentum", Fraction(9, 10)), ("nesterov", True)))
    assert found.learning_rate == LearningRate(Fraction(1, 10), Fraction(1, 2), (60, 65), "epochs")
    assert (found.verify, found.verify_every) == (StageSpec("crown_ibp"), 5)
    assert found.attack == StageSpec("pgd", (("steps", 7),))


def test_the_rate_may_be_a_cosine_and_images_may_be_changed_at_random() -> None:
    found = objective("learning_rate: cosine(1e-3, warmup=1/2, final=1e-5) augment: [flip, shift(2, fill=reflect)]")
    assert found.learning_rate == CosineRate(Fraction(1, 1000), Fraction(1, 2), Fraction(1, 100_000))
    assert found.augment == (Named("flip"), Named("shift", (("pixels", 2), ("fill", "reflect"))))
    assert objective("augment: flip").augment == (Named("flip"),) and objective("").augment == ()
    assert objective("learning_rate: cosine(1e-3, warmup=30)").epochs == 45
    assert objective("learning_rate: cosine(0.1)").learning_rate == CosineRate(Fraction(1, 10))


def test_without_options_eps_grows_to_the_property_s_and_the_other_part_of_the_data_is_trained_on() -> None:
    found = objective("")
    assert found.eps == RampSpec(Fraction(0), Fraction(8, 255), Fraction(0), Fraction(10))
    assert found.natural_weight == RampSpec(Fraction(1), Fraction(1, 2), Fraction(0), Fraction(10))
    assert found.train is not None and found.train.source == "mnist5k"
    assert dict(found.train.options) == {"split": "train"} and found.train.choice == ()
    assert found.train.range == (0, 255) and found.train_transform.scale == Fraction(1, 255)
    assert (found.property, found.model, found.bound, found.epochs) == ("robust", "clf", Named("ibp"), 20)
    assert (found.initialize, found.verify, found.attack) == ("keep", StageSpec("ibp"), StageSpec("pgd"))


def test_an_npz_with_arrays_to_test_is_trained_on_those_to_train() -> None:
    text = HEAD.replace('mnist5k(split="test")', 'npz("m.npz", x="x_test", y="y_test")')
    train = objective("", text).train
    assert train is not None and dict(train.options) == {"x": "x_train", "y": "y_train"}
    assert (train.path, train.choice) == ("m.npz", ())
    assert codes(text.replace('"x_test"', '"x"') + "objective o for robust { }") == ["E230"]


def test_the_natural_weight_falls_while_eps_grows_unless_something_else_is_said() -> None:
    moments = {"begin": Fraction(10), "end": Fraction(900), "unit": "steps", "shape": "smooth"}
    found = objective("eps: ramp(0 -> eps, steps 10..900, smooth)")
    assert found.natural_weight == RampSpec(Fraction(1), Fraction(1, 2), **moments)
    found = objective("natural_weight: ramp(1 -> 0, steps 10..900, smooth)")
    assert found.eps == RampSpec(Fraction(0), Fraction(8, 255), **moments)
    assert objective("eps: eps").natural_weight == RampSpec(Fraction(1), Fraction(1, 2), Fraction(0), Fraction(10))


def test_crown_ibp_mixes_until_eps_has_grown_and_ends_without_natural_loss() -> None:
    found = objective("bound: crown_ibp eps: ramp(0 -> eps, epochs 1..5)")
    assert found.mixture == RampSpec(*map(Fraction, (1, 0, 1, 5))) == found.natural_weight
    assert objective("bound: crown_ibp eps: eps").mixture is None
    assert objective("bound: mtl_ibp mixture: 0.25").mixture == Fraction(1, 4)
    assert objective("bound: mtl_ibp").mixture is None


def test_eps_is_written_in_the_space_of_the_property_and_in_pixels() -> None:
    assert objective("eps: 8px").eps == Fraction(8, 255)
    raw = HEAD.replace("ball(x, linf, eps) within [0, 1] in unit", "ball(x, linf, 8) within [0, 255] in raw")
    assert objective("eps: ramp(0px -> 8px, epochs 0..3)", raw).eps == RampSpec(*map(Fraction, (0, 8, 0, 3)))


@pytest.mark.parametrize(("block", "epochs"), [("eps: ramp(0 -> eps, epochs 10..60)", 90), ("eps: eps", 20),
                                               ("learning_rate: decay(1, epochs=[41])", 62),
                                               ("eps: ramp(0 -> eps, steps 10..6000)", 20)])  # fmt: skip
def test_without_epochs_training_goes_on_for_half_as_long_again_as_the_last_change(block: str, epochs: int) -> None:
    assert objective(block).epochs == epochs


def test_a_data_set_that_the_caller_binds_is_no_mistake_before_training() -> None:
    more = 'dataset more = npz("none.npz") { normalize: { mean: 0.1307 std: 0.3081 } }'
    text = f"{HEAD}{more}\nobjective o for robust {{ }}\nobjective p for robust {{ train: more }}"
    loaded = load(text, bound=["test", "more"])
    assert loaded.objectives["o"].train is None
    train = loaded.objectives["p"].train
    assert train is not None and train.bound and train.name == "more"


def test_training_data_of_another_scale_reach_the_network_by_their_own() -> None:
    text = 'dataset floats = npz("f.npz") { normalize: { mean: 0.1307 std: 0.3081 } }\n'
    found = objective("train: floats", HEAD + text)
    assert found.train_transform.scale == 1 and found.train_transform.std == (Fraction(3081, 10_000),)


def test_a_property_of_an_imported_specification_cannot_be_trained_for(tmp_path: Path) -> None:
    (tmp_path / "clf.keras").touch()
    (tmp_path / "common.prop").write_text(HEAD)
    (tmp_path / "s.prop").write_text('prop 1 import "common.prop" as c objective o for c.robust { }')
    with pytest.raises(ValueError, match=r"E229.*another specification"):
        load_file(tmp_path / "s.prop")


def test_a_mistake_in_the_property_is_reported_once() -> None:
    text = HEAD.replace("in unit", "") + "objective o for robust { bound: ibp }"
    assert codes(text) == ["E203"]


def test_the_objective_of_the_reference_is_valid() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "language.md").read_text("utf-8")
    (block,) = (part for part in reference.split("```") if part.strip().startswith("objective"))
    data = 'dataset digits_to_learn = mnist5k(split="train") { normalize: { mean: 0.1307 std: 0.3081 } }'
    found = load(f"{HEAD}{data}{block}").objectives["certified"]
    assert found.verify == StageSpec("crown_ibp") and len(found.regularizers) == 2


def test_a_printed_objective_is_the_same_objective() -> None:
    found = objective("eps: ramp(0 -> eps, epochs 10..60, smooth) regularize: [tightness(weight=0.5), relu_balance]")
    again = load(HEAD + found.text).objectives["o"]
    assert again == found
    module = parse_module(SourceText("t", HEAD + found.text), Diagnostics())
    assert module is not None and found.text in print_module(module)
