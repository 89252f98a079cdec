"""How a paper trains a network, as data from which optimizers and objectives are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from tfcert.objectives import IBP, ConstrainedIBP, Objective
from tfcert.schedules import Ramp


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a paper trains a network, as far as it prints that: None where it prints nothing.

    Attributes:
        data: the data set's name.
        inputs: what a network takes: pixels ``p`` from 0 to 255 become ``p / 255`` times a scale plus an offset.
        epochs, batch: passes over the training images, and images a step.
        optimizer: ``adam`` or ``sgd``.
        rate: the first learning rate. One of these lowers it: ``drops``, the steps after which it is divided by
            ``divisor``; ``cosine``, a linear warm-up over ``warm_up`` steps of a hundred and then half a cosine to 0;
            ``plateau``, a factor when the validation loss stays (for five epochs: the papers print no patience);
            ``every``, epochs after which it is multiplied by ``factor``.
        momentum: of ``sgd``.
        decay: the share of a kernel that its gradient gets added; the networks' own regularisers do it.
        eps: the radius that training is for, in [0, 1].
        plain, ramp: steps without bounds, and steps in which eps grows from 0 and kappa falls from 1 to ``kappa``.
        augment: what is done to images at random.
        normalize: whether channels are normalised by the training images' mean and deviation.
        note: what else has to be known.
    """

    data: str
    inputs: tuple[float, float] = (1.0, 0.0)
    epochs: int | None = None
    batch: int | None = None
    optimizer: str | None = None
    rate: float | None = None
    drops: tuple[int, ...] = ()
    divisor: float = 10.0
    cosine: bool = False
    warm_up: float = 0.0
    plateau: float | None = None
    every: int | None = None
    factor: float = 1.0
    momentum: float = 0.0
    decay: float = 0.0
    eps: float | None = None
    plain: int = 0
    ramp: int = 0
    kappa: float = 1.0
    augment: str = ""
    normalize: bool = False
    note: str = ""

    def training(
        self, steps: int | None = None, *, rate: float | None = None
    ) -> tuple[keras.optimizers.Optimizer, list[keras.callbacks.Callback]]:
        """The optimizer for ``compile``, and the callbacks for ``fit`` that lower its learning rate.

        Args:
            steps: in all, where a cosine goes over them.
            rate: the first learning rate, where the paper prints none or you choose another.

        Raises:
            ValueError: there is no optimizer, no rate, or ``steps`` are missing; says what to do.
        """
        rate = rate or self.rate
        if self.optimizer is None:
            raise ValueError("the paper prints no optimizer for this network: compile it with one that you choose")
        if rate is None:
            raise ValueError("the paper prints no learning rate for this network; choose one: training(rate=0.01)")
        schedule: Any = rate
        if self.drops:
            rates = [rate / self.divisor**k for k in range(len(self.drops) + 1)]
            schedule = keras.optimizers.schedules.PiecewiseConstantDecay(list(self.drops), rates)
        elif self.cosine:
            if steps is None:
                raise ValueError("the learning rate follows a cosine over all steps: pass their number, steps=...")
            warm = max(1, round(self.warm_up * steps))
            schedule = keras.optimizers.schedules.CosineDecay(0.0, steps - warm, warmup_target=rate, warmup_steps=warm)
        made = {"adam": keras.optimizers.Adam, "sgd": lambda r: keras.optimizers.SGD(r, self.momentum)}[self.optimizer]
        return made(schedule), self._lowering(rate)

    def _lowering(self, rate: float) -> list[keras.callbacks.Callback]:
        if self.plateau is not None:
            return [keras.callbacks.ReduceLROnPlateau("val_loss", self.plateau, patience=5)]
        if self.every is None:
            return []
        factor, every = self.factor, self.every
        return [keras.callbacks.LearningRateScheduler(lambda epoch, _: rate * factor ** (epoch // every))]

    def objective(self, *, constrained: bool = False, **options: Any) -> Objective:
        """The objective of certified training: IBP, or constrained IBP, with the paper's schedules in steps.

        Args:
            constrained: whether the widths of intervals count too (Morawiecki et al. 2020).
            options: of the objective beside them, such as ``clip=(0, 1)`` or ``reduction``.

        Raises:
            ValueError: the paper does not train with bounds.
        """
        if self.eps is None:
            raise ValueError("the paper does not train this network with bounds, so it has no objective")
        start, end = self.plain, self.plain + self.ramp
        eps, kappa = (
            Ramp(first, last, start, end, unit="steps") for first, last in ((0.0, self.eps), (1.0, self.kappa))
        )
        return (ConstrainedIBP if constrained else IBP)(eps, kappa=kappa, **options)
