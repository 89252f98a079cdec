"""The property language: a ``.prop`` text becomes a checked ``Spec`` of plain data, without TensorFlow.

```python
spec = load_file("robust.prop", params={"eps": "2/255"}, bound={"clf"})     # SpecError: .render(), .diagnostics
for p in spec.properties.values():
    model, data = spec.models[p.model], spec.datasets.get(p.dataset)
    p.region.net_eps(p.transform)                 # exact Fractions, network space; net_within(p.region, p.transform)
    p.sample_selected(label); p.clauses(10, label); p.holds(outputs, label)
spec.assertions[0].judge(Results(properties={"robust": PropertyCounts(100, 98, 90, 5)}))
```

Numbers are ``fractions.Fraction`` until they meet a tensor; ``tfcert.sets.rounding`` takes them to float64.
Nothing in a specification is ever executed, and no file but imported specifications is read.
"""

from __future__ import annotations

from tfcert.catalog import StageKind
from tfcert.language.loader import load, load_file
from tfcert.language.spec.assertions import Assertion, Judgement, ReportItem
from tfcert.language.spec.cells import Abstraction, Tuning
from tfcert.language.spec.declarations import DEFAULT_STRATEGY, Dataset, ModelDeclaration, Param, StageSpec, Strategy
from tfcert.language.spec.lowering import InexactRowError
from tfcert.language.spec.normal_form import TooManyClausesError
from tfcert.language.spec.objective import CosineRate, LearningRate, Named, ObjectiveTemplate, RampSpec, Rate, Scheduled
from tfcert.language.spec.quantities import MeasureValues, PropertyCounts, Quantity, Results
from tfcert.language.spec.questions import (
    AnyTemplate,
    DistanceTemplate,
    MeasureTemplate,
    PropertyTemplate,
    ShareTemplate,
    ValueTemplate,
)
from tfcert.language.spec.regions import BallSpec, BoxSpec, net_within
from tfcert.language.spec.spaces import Transform
from tfcert.language.spec.specification import Spec
from tfcert.language.text.diagnostics import CODES, Diagnostic, SourceText, Span, SpecError

__all__ = [
    "CODES",
    "DEFAULT_STRATEGY",
    "Abstraction",
    "AnyTemplate",
    "Assertion",
    "BallSpec",
    "BoxSpec",
    "CosineRate",
    "Dataset",
    "Diagnostic",
    "DistanceTemplate",
    "InexactRowError",
    "Judgement",
    "LearningRate",
    "MeasureTemplate",
    "MeasureValues",
    "ModelDeclaration",
    "Named",
    "ObjectiveTemplate",
    "Param",
    "PropertyCounts",
    "PropertyTemplate",
    "Quantity",
    "RampSpec",
    "Rate",
    "ReportItem",
    "Results",
    "Scheduled",
    "ShareTemplate",
    "SourceText",
    "Span",
    "Spec",
    "SpecError",
    "StageKind",
    "StageSpec",
    "Strategy",
    "TooManyClausesError",
    "Transform",
    "Tuning",
    "ValueTemplate",
    "load",
    "load_file",
    "net_within",
]
