"""Certificates from end to end: written with proofs, and checked by a copy of the checker that sees nothing else."""

import ast
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

import tfcert
from proof import small
from tfcert.certification.certificates import CertificateWriter
from tfcert.certification.trees import TreeSearch
from tfcert.clauses import Clause, Clauses
from tfcert.options import BoundOptions
from tfcert.proof.__main__ import main
from tfcert.proof.check import check, read_claim

PROOF = Path(tfcert.__file__).parent / "proof"
DEPLOYED = BoundOptions(rounding="deployed")


def samples(model, count=6):
    x = np.random.default_rng(3).random((count, *model.input_shape[1:])).astype(np.float32)
    return x, model(x).numpy().argmax(axis=1)


@pytest.mark.parametrize("build", [small.dense, small.image, small.flat])
@pytest.mark.parametrize(
    ("norm", "method"), [("linf", "crown"), ("linf", "ibp"), ("linf", "crown-ibp"), ("l2", "crown"), ("l1", "crown")]
)
def test_what_the_prover_proves_the_checker_proves(build, norm, method, tmp_path, eager):
    """All of it, and with larger margins, but for what a softmax may take, which the checker's are less: the checker
    computes in float64. At radii of every size, some too large."""
    model = build()
    x, y = samples(model)
    proofs = 0
    for eps in (0.001, 0.01, 0.05):
        found = tfcert.certify(
            model, x, y, eps=eps, norm=norm, clip=(0, 1), method=method, options=DEPLOYED, certificate=True
        )
        for number, proven in enumerate(found.verified):
            certificate = found.certificates[number]
            if not proven:
                assert certificate is None
                continue
            assert isinstance(certificate, tfcert.Certificate), certificate
            assert certificate.margin >= found.margin[number] - (1e-9 if build is small.dense else 64 * 2.0**-24)
            proofs += 1
    assert proofs >= 6


def test_curves_are_proven_too(tmp_path, eager):
    """The checker's lines are its own, and lie as near to the functions as the prover's, or nearly."""
    model = small.curved()
    x, y = samples(model)
    found = tfcert.certify(model, x, y, eps=0.02, options=DEPLOYED, certificate=True)
    assert found.verified.sum() >= 3
    for margin, certificate in zip(found.margin, found.certificates, strict=True):
        if certificate is not None:
            assert isinstance(certificate, tfcert.Certificate), certificate
            assert certificate.margin >= 0.99 * margin


def test_slopes_of_alpha_crown_are_in_the_certificate(tmp_path, eager):
    """At a radius where lines by the rule are too loose, and what the file says is what the checker needs."""
    model = small.dense((4, 12, 12, 3))
    path, graph = small.saved(model, tmp_path)
    x, y = (part[[2, 7]] for part in samples(model, 12))
    named, chosen = (
        tfcert.certify(model, x, y, eps=0.19, method=method, options=DEPLOYED, certificate=certificate)
        for method, certificate in (("crown", False), ("alpha-crown", True))
    )
    gained = chosen.verified & ~named.verified
    assert gained.any()
    certificate = chosen.certificates[int(np.argmax(gained))]
    assert isinstance(certificate, tfcert.Certificate), certificate
    assert any(name.startswith("slopes/") for name in certificate.arrays)
    file = certificate.save(tmp_path / "c.npz")
    assert main([str(file), "--model", str(path)]) == 0
    bare = tfcert.Certificate(certificate.head, {k: v for k, v in certificate.arrays.items() if "slopes" not in k}, 0.0)
    assert not check(read_claim(bare.save(tmp_path / "bare.npz")), graph).proven


def test_what_the_checker_does_not_know_has_no_certificate():
    start = keras.Input((3,))
    model = keras.Model(start, keras.layers.Dense(2)(keras.layers.Dense(3, activation="mish")(start)))
    x, y = samples(model)
    found = tfcert.certify(model, x, y, eps=1e-4, options=DEPLOYED, certificate=True)
    assert found.verified.any()
    for proven, certificate in zip(found.verified, found.certificates, strict=True):
        assert ("mish" in str(certificate)) if proven else certificate is None
    assert CertificateWriter(tfcert.from_keras(small.dense())).refusal


SPEC = """prop 1
model clf = keras("clf.keras")
dataset test = npz("test.npz")
strategy plan = crown {{ rounding: deployed }}
property robust(x, y in test) using plan {{ forall z in ball(x, linf, {eps}) in net: argmax(clf(z)) == y }}
property either(x, y in test) using plan {{
  forall z in ball(x, linf, {eps}) or ball(x, l1, 0.02) in net: argmax(clf(z)) == y
}}
measure radius(x, y in test) = largest r in [0, 0.5] tol 1e-3 such that
  forall z in ball(x, linf, r) in net: argmax(clf(z)) == y using plan
measure least(x, y in test) = largest t in [-10, 10] tol 1e-2 such that
  forall z in ball(x, linf, {eps}) in net: clf(z)[y] >= t using plan
"""


@pytest.fixture
def run(tmp_path, eager):
    """A run with certificates: its folder and report."""
    model = small.dense()
    model.save(tmp_path / "clf.keras")
    x, y = samples(model)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    (tmp_path / "spec.prop").write_text(SPEC.format(eps="0.01"))
    report = tfcert.verify(tmp_path / "spec.prop", out=tmp_path / "out", certificates=True, verbose=0)
    return tmp_path / "out", report


def test_a_run_writes_one_file_a_proof_and_says_where(run, capsys):
    out, _ = run
    records = json.loads((out / "result.json").read_text())["records"]
    proofs = [r for r in records if r["outcome"] == "verified"]
    files = [path for r in proofs for path in out.glob(r["certificate"])]
    assert {r["property"] for r in proofs} == {"robust", "either", "radius", "least"}
    assert len(files) == len(list((out / "certificates").glob("*.npz")))
    assert all(len(list(out.glob(r["certificate"]))) == (2 if r["property"] == "either" else 1) for r in proofs)
    assert all("certificate" not in r for r in records if r["outcome"] != "verified")
    assert main([str(out)]) == 0
    assert f"{len(files)} of {len(files)} certificates proven" in capsys.readouterr().out


def test_a_measures_certificate_is_about_the_value_that_is_proven(run):
    out, report = run
    for record in report.records:
        if record.property in ("radius", "least"):
            claim = read_claim(out / record.certificate)
            radius = record.property == "radius"
            found = Fraction(claim.head["region"]["eps"]) if radius else -claim.offsets[0]
            assert float(found) == record.measured.lower


def test_a_clause_that_no_row_proves_has_a_combination_in_its_certificate():
    """``d + 0.1 > 0`` or ``-3 d + 0.1 > 0`` for a d of either sign; with -3 for the second 0.1 neither is known."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)])
    first = np.array([[1, -1, 0.5], [0.25, 0.5, 1]], np.float32)
    model.set_weights([first, np.ones(3, np.float32), np.array([[1, -1], [-1, 1], [0, 0]], np.float32), np.zeros(2)])
    rows = Clauses.stack([[Clause(np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([0.1, 0.1]))]])
    sets = tfcert.Box(np.full((1, 2), -0.3, np.float32), np.full((1, 2), 0.3, np.float32))
    found = CertificateWriter(model).certificate(sets, rows, "crown")
    assert isinstance(found, tfcert.Certificate), found
    assert found.margin > 0 and np.allclose(found.arrays["weights"], [0.75, 0.25], atol=0.1)
    alone = Clauses.stack([[Clause(np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([0.1, -3.0]))]])
    assert isinstance(CertificateWriter(model).certificate(sets, alone, "crown"), str)


def test_radii_have_certificates(tmp_path, eager):
    model = small.dense()
    x, y = samples(model, 2)
    found = tfcert.certified_radius(model, x, y, norm="l2", certificate=True, tolerance=0.1)
    for radius, certificate in zip(found.radius, found.certificates, strict=True):
        assert float(Fraction(certificate.head["region"]["eps"])) == radius and certificate.margin > 0


SPLIT = """prop 1
model clf = keras("clf.keras") {{ outputs: logits }}
dataset test = npz("test.npz")
strategy plan = split(time_limit=20s, cut=neurons)
property robust(x, y in test) using plan {{ forall z in ball(x, linf, {eps}) in net: argmax(clf(z)) == y }}
"""


def test_trees_of_split_are_in_its_certificates(tmp_path, eager, monkeypatch):
    """No number is cut by the writer: where lines do not suffice, the trees are those that the stage found."""
    model = small.dense((6, 12, 12, 3))
    model.save(tmp_path / "clf.keras")
    x, y = (part[4:] for part in samples(model, 5))
    np.savez(tmp_path / "test.npz", x=x, y=y)
    monkeypatch.setattr(TreeSearch, "_next", lambda self, bounds, chosen: None)
    report = tfcert.verify(SPLIT.format(eps="0.49"), out=tmp_path / "out", certificates=True, verbose=0, bindings={
        "clf": tmp_path / "clf.keras", "test": tmp_path / "test.npz",
    })  # fmt: skip
    proven = [record for record in report.records if record.outcome == "verified"]
    claims = [read_claim(tmp_path / "out" / r.certificate) for r in proven if r.certificate]
    cut = [claim for claim in claims if (claim.arrays.get("tree/place", np.zeros(0)) > 0).any()]
    assert len(claims) == len(proven) and cut, [(r.outcome, r.no_certificate) for r in report.records]
    assert all(claim.head["bounds"]["neurons"] == "leaves" for claim in cut)
    assert main([str(tmp_path / "out")]) == 0


def alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the checker's folder, copied away, where nothing but NumPy and h5py can be imported."""
    site = folder / "site"
    if not site.exists():
        site.mkdir()
        shutil.copytree(PROOF, site / "proof", ignore=shutil.ignore_patterns("__pycache__"))
        for package in ("numpy", "h5py"):
            home = Path(find_spec(package).submodule_search_locations[0])
            for part in (home, home.with_name(f"{package}.libs")):
                if part.exists():
                    (site / part.name).symlink_to(part)
    code = (
        "import sys, runpy; sys.argv[0] = 'proof'\n"
        "try: runpy.run_module('proof', run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "seen = {m.split('.')[0] for m in sys.modules} & {'tensorflow', 'keras', 'tfcert', 'scipy'}\n"
        "print('strangers:', sorted(seen))\n"
        "sys.exit(code)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments], cwd=site, env=environment, capture_output=True, text=True
    )


def test_the_checker_needs_nothing_else(run, tmp_path):
    out, _ = run
    found = alone(tmp_path, str(out))
    assert found.returncode == 0, found.stderr
    assert "strangers: []" in found.stdout and "proven at level float32-any-order" in found.stdout
    (out / "certificates" / "more.npz").write_bytes(b"nothing")
    assert alone(tmp_path, str(out)).returncode == 1


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def test_the_checker_is_small_and_imports_nothing_of_tfcert():
    """Lines of code are counted: comments, docstrings and empty lines explain them. Exact arithmetic is a second
    checker, which the first does not need."""
    files, count = sorted(PROOF.glob("*.py")), 0
    for path in files:
        text = path.read_text(encoding="utf-8")
        said = {
            line
            for node in ast.walk(ast.parse(text))
            if is_text(node)
            for line in range(node.lineno, node.end_lineno + 1)
        }
        lines = enumerate(text.splitlines(), start=1)
        code = sum(bool(line.strip()) and line.strip()[0] != "#" and number not in said for number, line in lines)
        count += code if path.name != "exact.py" else 0
        imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
        known = ("from .", "from __future__", "import numpy", "import h5py")
        outside = [line.split()[1].split(".")[0] for line in imports if not line.startswith(known)]
        assert set(outside) <= set(sys.stdlib_module_names), outside
    assert count <= 1500
