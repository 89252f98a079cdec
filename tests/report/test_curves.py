"""Curves of a training are read from its log, and drawn."""

from __future__ import annotations

import math

import pytest

from tfcert.report import figures
from tfcert.report.curves import read_curves

LOG = """\
epoch,eps,val_attack_accuracy,val_nominal_accuracy,val_verified_accuracy
0,0.0,0.5,0.6,0.1
1,0.1,0.5,0.6,0.1
2,0.2,0.7,0.8,0.4
1,0.15,0.5,0.6,0.1
2,0.2,0.75,0.85,0.45
3,0.2,0.8
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_of_an_epoch_that_was_repeated_the_last_row_counts_and_a_row_cut_short_does_not(log):
    curves = read_curves(log)
    assert curves.epochs == (1, 2, 3)
    assert curves.eps == (0.0, 0.15, 0.2)
    assert curves.verified == (0.1, 0.1, 0.45) and curves["attack"] == (0.5, 0.5, 0.75)


def test_epochs_that_were_not_evaluated_are_no_points_of_the_curve(log):
    log.write_text(LOG.replace("1,0.15,0.5,0.6,0.1", "1,0.15,nan,nan,NA"))
    curves = read_curves(log)
    assert math.isnan(curves.nominal[1]) and (curves.nominal[0], curves.nominal[2]) == (0.6, 0.85)
    assert math.isnan(curves.verified[1])
    assert curves.last("verified") == 0.45 and curves.eps == (0.0, 0.15, 0.2)


def test_without_an_attack_its_curve_is_unknown_and_the_rest_is_drawn(tmp_path, log):
    pytest.importorskip("matplotlib")
    log.write_text("epoch,eps,val_nominal_accuracy,val_verified_accuracy\n0,0.1,0.9,0.5\n1,0.1,0.9,0.6\n")
    curves = read_curves(log)
    assert math.isnan(curves.last("attack"))
    figures.draw_training(tmp_path / "f" / "t.png", "a training", curves)
    assert (tmp_path / "f" / "t.png").read_bytes().startswith(b"\x89PNG")
