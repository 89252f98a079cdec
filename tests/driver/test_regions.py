"""Regions in network space: exact radii rounded outward for proofs, inward for witnesses."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tfcert.driver.arrivals import to_net, to_unit
from tfcert.driver.regions import build_regions
from tfcert.errors import UsageError
from tfcert.language import load

HEAD = """\
prop 1
model clf = keras("clf.keras") {{ outputs: logits }}
dataset test = npz("t.npz", x="x", y="y") {{ range: [0, 255] scale: 1/255 {normalize} }}
property p(x, y in test) {{ forall z in {region}: argmax(clf(z)) == y }}
"""
PER_CHANNEL = "normalize: { mean: [0.4914, 0.4822, 0.4465] std: [0.2023, 0.1994, 0.2010] }"
ONE_CHANNEL = "normalize: { mean: [0.1307] std: [0.3081] }"


def template(region: str, normalize: str = ""):
    text = HEAD.format(region=region, normalize=normalize)
    return load(text, bound=("clf", "test")).properties["p"]


def exact(array: np.ndarray) -> list[Fraction]:
    return [Fraction(float(v)) for v in np.ravel(array)]


@pytest.mark.parametrize("normalize", ["", ONE_CHANNEL, PER_CHANNEL])
@pytest.mark.parametrize("eps", ["1/255", "0.1", "1/3"])
def test_the_proof_encloses_the_exact_box_and_the_witnesses_are_enclosed_by_it(normalize, eps):
    t = template(f"ball(x, linf, {eps}) within anything in unit", normalize)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3))
    centers = to_net(t.transform, pixels, np.float32)
    regions = build_regions(t, centers, (4, 4, 3), np.float32)
    radius = t.region.net_eps(t.transform)
    radii = [radius[i % len(radius)] for i in range(centers.size)]
    corners = regions.witness.project(centers + np.float32(9)), regions.witness.project(centers - np.float32(9))
    proof = zip(exact(regions.proof.lower), exact(regions.proof.upper), strict=True)
    inner = zip(exact(corners[1]), exact(corners[0]), strict=True)
    for c, r, (low, high), (inside_low, inside_high) in zip(exact(centers), radii, proof, inner, strict=True):
        assert low <= c - r <= inside_low <= c <= inside_high <= c + r <= high
        assert r - (c - low) >= -abs(c) * Fraction(1, 2**22) - r / 2**22


def test_black_and_white_pixels_lie_within_the_unit_range_after_normalisation():
    t = template("ball(x, linf, 0.01) within [0, 1] in unit", PER_CHANNEL)
    pixels = np.array([0, 255], np.uint8)[:, None, None, None] * np.ones((2, 2, 2, 3), np.uint8)
    centers = to_net(t.transform, pixels, np.float32)
    regions = build_regions(t, centers, (2, 2, 3), np.float32)
    assert regions.witness.contains(centers).all()
    assert np.abs(to_unit(t.transform, regions.proof.lower[0])).max() < 1e-6


def test_in_an_intersection_numbers_have_each_its_own_radius():
    """Where a ball is joined with a box its radius is multiplied number by number, as it is alone."""
    text = 'prop 1\nmodel f = keras("f.keras")\ndataset d = npz("d.npz") { scale: 1/2 }\n'
    ball = "ball(x, linf, eps=[2, 0.5, 0]) and box([-9, 9]) in raw"
    t = load(f"{text}property p(x, y in d) {{ forall z in {ball}: argmax(f(z)) == y }}").properties["p"]
    centers = to_net(t.transform, np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 8.0]]), np.float32)
    regions, reach = build_regions(t, centers, (3,), np.float32), np.array([1, 0.25, 0])
    for box in (regions.proof, regions.witness):
        np.testing.assert_allclose(box.lower, centers - reach, rtol=1e-6)
        np.testing.assert_allclose(box.upper, centers + reach, rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_centre_outside_within_is_an_error(norm):
    t = template(f"ball(x, {norm}, 0.01) within [0.2, 1] in unit")
    centers = np.array([[0.5, 0.5], [0.5, 0.1]], np.float32)
    with pytest.raises(UsageError, match=r"place 1 .*prove nothing"):
        build_regions(t, centers, (2,), np.float32)


def test_radii_of_raw_and_net_space_are_converted():
    centers = np.full((1, 4), 0.5, np.float32)
    for region, expected in (("ball(x, l2, 51) in raw", 0.2), ("ball(x, l2, 0.25) in net", 0.25)):
        t = template(region)
        assert build_regions(t, centers, (4,), np.float32).proof.eps == pytest.approx([expected])


def test_a_box_beyond_the_type_of_the_network_is_refused():
    spec = load('prop 1 model f = keras("f.keras") property p { forall z in box([-1, 1e39]): f(z)[0] > 0 }')
    with pytest.raises(UsageError, match="p: the box reaches beyond the largest number of float32"):
        build_regions(spec.properties["p"], None, (2,), np.float32)
    assert build_regions(spec.properties["p"], None, (2,), np.float64).witness is not None


def test_a_box_is_rounded_outward_and_one_without_any_float_has_no_witness():
    text = (
        'prop 1\nmodel clf = keras("c.keras") { outputs: logits }\n'
        "property p { forall z in box([0.1, 0.1], [0, 1/3]) in net: clf(z)[0] <= 1 }\n"
    )
    t = load(text, bound=("clf",)).properties["p"]
    regions = build_regions(t, None, (2,), np.float32)
    low, high = exact(regions.proof.lower), exact(regions.proof.upper)
    assert low[0] < Fraction(1, 10) < high[0] and low[1] == 0 and high[1] >= Fraction(1, 3)
    assert regions.witness is None


def test_bounds_that_do_not_fit_the_input_are_an_error():
    text = (
        'prop 1\nmodel clf = keras("c.keras") { outputs: logits }\n'
        "property p { forall z in box([0, 1], [0, 1], [0, 1]) in net: clf(z)[0] <= 1 }\n"
    )
    t = load(text, bound=("clf",)).properties["p"]
    with pytest.raises(UsageError, match="3 bounds"):
        build_regions(t, None, (4,), np.float32)
