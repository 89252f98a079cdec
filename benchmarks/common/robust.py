"""The specification of robustness that benchmarks run: a model and samples beside it, a strategy and a radius."""

SPEC = """\
prop 1
model clf = keras("clf.keras") {{ outputs: logits }}
dataset test = npz("test.npz", x="x", y="y") {{ range: [0, 1] }}
strategy plan = {stages}
property robust(x, y in test) using plan {{
  forall z in ball(x, linf, {eps}) within [0, 1] in unit: argmax(clf(z)) == y
}}
"""
