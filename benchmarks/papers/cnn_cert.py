"""CNN-Cert: Boopathy, Weng, Chen, Liu, Daniel, AAAI 2019."""

from __future__ import annotations

import numpy as np

from benchmarks.common import store
from benchmarks.papers import radii, runs
from benchmarks.papers.line import Line, Open, Paper
from benchmarks.papers.records import found, joined, load, span, stored
from benchmarks.radius import tables
from benchmarks.radius.searches import NORMS

CNN4, CNN5, CNN8, CNN20 = (
    f"mnist_cnn_{name}_relu" for name in ("4layer_5_3", "5layer_5_3", "8layer_5_3", "4layer_20_3")
)
CIFAR5, CIFAR7, CIFAR10 = (f"cifar_cnn_{name}_relu" for name in ("5layer_5_3", "7layer_5_3", "5layer_10_3"))
NORMAL, LENET, NO_POOL = "mnist_cnn_4layer_5_3_bn_relu", "mnist_lenet_relu", "mnist_lenet_nopool_relu"
SEVEN, SEVEN_SMALL = "mnist_cnn_7layer_relu", "mnist_cnn_7layer_small_relu"
RESNETS = tuple(f"mnist_resnet_{n}_relu" for n in (2, 3, 4))
MLPS, WIDE_MLP = ("mnist_2layer_fc_20_relu", "mnist_3layer_fc_20_relu"), "mnist_4layer_fc_100_relu"
CONVOLUTIONAL = (CNN4, CNN5, NORMAL, LENET, NO_POOL, *RESNETS[:2])
"""The networks of the comparators that are no MLPs."""
CURVES = ("sigmoid", "tanh", "arctan")
RADII = "pytest tests/reference/test_radii.py"
SEARCHES = "`benchmarks.radius.run`"
HOUR = 3600.0


def curved(family: str) -> tuple[str, ...]:
    """A family's networks with each S-shaped activation."""
    return tuple(f"{family}_{name}" for name in CURVES)


def _evaluations() -> list[int]:
    return [radii.entry(*one)["evaluations"] for one in radii.every()]


def _over(first: tuple[str, str], second: tuple[str, str], form: str = "{:.1f}") -> str:
    return span(found(lambda m=norm: radii.ratio(m, first, second) for norm in NORMS), form)


def _activation(family: str, name: str, norms: tuple[str, ...] = NORMS) -> str:
    pair = (f"{family}_{name}", "cnncert"), (f"{family}_relu", "cnncert")
    return joined(found(lambda m=norm: radii.ratio(m, *pair) for norm in norms))


def _time(relaxation: str) -> str:
    pairs = [
        (f"{family}_{name}", f"{family}_relu", norm)
        for family in ("mnist_cnn_4layer_5_3", "mnist_cnn_8layer_5_3", "cifar_cnn_5layer_5_3")
        for name in CURVES
        for norm in NORMS
    ]
    return span(
        found(lambda c=c, r=r, m=m: radii.cpu(c, m, relaxation) / radii.cpu(r, m, relaxation) for c, r, m in pairs)
    )


def _hundred() -> str:
    few, many = (radii.search(CNN4, "linf", "fastlin", images).mean for images in (10, 100))
    return f"{few:.4f} for ten and {many:.4f} for a hundred (4 layers, L-inf, CNN-Cert-Relu)"


def _clever(beyond: str) -> int:
    """By image, how often CLEVER lies below the certified radius, or beyond the attack's distance."""
    count = 0
    for case in radii.compared_cases():
        found = radii.compared(*case)["radii"]
        other = found["certified" if beyond == "below" else "attack"]
        pairs = [(c, o) for c, o in zip(found["clever"], other, strict=True) if None not in (c, o)]
        count += sum(c < o if beyond == "below" else c > o for c, o in pairs)
    return count


def _images() -> int:
    return sum(len(radii.compared(*case)["radii"]["clever"]) for case in radii.compared_cases())


def _below_on_mlps() -> int:
    cases = [radii.compared(name, "l1")["radii"] for name in MLPS]
    return sum(c < r for case in cases for c, r in zip(case["clever"], case["certified"], strict=True))


def _clever_time() -> list[float]:
    seconds = [radii.compared(*case)["seconds"] for case in radii.compared_cases()]
    return [each["clever"] / each["certified"] for each in seconds]


def _attacked(network: str) -> str:
    """Certified radii in percent of an attack's distance, image by image, in L-inf."""
    case = radii.compared(network, "linf")["radii"]
    return f"{100 * np.mean([c / a for c, a in zip(case['certified'], case['attack'], strict=True)]):.0f}%"


def _grid(table: str) -> str:
    rows = tables.cnncert(tables.Results(load(radii.RADII)), tables.printed()["cnncert_3_to_8"])
    kept = [row for row in rows if table in row["table"].split(", ")]
    return store.markdown(kept) if kept else "(not measured yet)"


def _curves() -> str:
    rows = tables.activations(tables.Results(load(radii.RADII)), tables.printed()["cnncert_7"])
    return store.markdown(rows) if rows else "(not measured yet)"


HOLDS = """
Three things hold for every line about CNN-Cert and DeepCert:

- **The weights are not the papers'.** Layers and hidden nodes are, weights are those of the reference networks or
  trained here for few epochs. So radii and percentages are not expected to agree with the printed ones. What can be
  compared exactly is the authors' own programs on the same weights, whose radii the reference data has:
  `python -m pytest tests/reference` and the table `radius-peers` of `benchmarks/radius/README.md`.
- **Networks, norms, targets**: as in the papers, the first correctly classified images, a random target that is
  neither predicted, nor the runner-up, nor the least likely; ten images, unless a line says otherwise. Balls are not
  clipped to the pixel range. Ratios of times are of processor seconds, since the machine was not quiet throughout.
- **The authors' programs are unsound on some networks.** On residual networks the block's padding and the fold of batch
  normalisation are wrong: projected gradient descent refutes six of six claimed radii on images with small margins. On
  max or average pooling after tanh or sigmoid the bounds at eps = 0 exceed the true margin. DeepCert's program also
  takes the square root of a squared variance in raw batch normalisation. The papers' tables of these networks are
  **not** targets; the lines below say which they are (`tests/reference` holds the evidence).

Figures in threes are for L-inf, L2 and L1.
"""

LINES = [
    Line(
        where="abstract",
        claim="general: convolutions, max pooling, batch normalisation, residual blocks, general activations",
        measured="reproduces: every family of the paper is bounded; pooling, batch normalisation and residual blocks "
        "soundly, which theirs are not after S-shaped activations",
        command="pytest tests/soundness",
    ),
    Line(
        where="table 2, (i)",
        claim="linear bounds of activations through convolutions",
        measured="reproduces: bounds at the radii that their search visited agree on every plain network, within the "
        "test's tolerance",
        command=RADII,
    ),
    Line(
        where="table 2, (ii)",
        claim="residual blocks",
        measured="the formula reproduces, the program does not compute it; auto_LiRPA's CROWN radii are met instead",
        command=RADII,
    ),
    Line(
        where="table 2, (iii)",
        claim="batch normalisation is a scaling",
        measured="reproduces in every position: radii of the authors' program on the 4-layer network with batch "
        "normalisation are met",
        command=RADII,
    ),
    Line(
        where="table 2, (iv)",
        claim="an upper plane of max pooling with level gamma",
        measured="does not hold as printed: it fails wherever an input's upper bound is below another's lower bound; "
        "with such inputs dropped it is sound, and is the relaxation `cnncert`",
        command="pytest tests/propagation/test_pooling.py -k printed",
    ),
    Line(
        where="text, (iv)",
        claim="the range of an average pooling is the average of l and u",
        measured="true, but loose: here it is a linear map and exact",
        command="pytest tests/network",
    ),
    Line(
        where="eq. 8, 9",
        claim="closed-form bounds by dual norms",
        measured="reproduces",
        command="pytest tests/propagation/test_concretize.py",
    ),
    Line(
        where="text, search",
        claim="bisection on eps finds the radius",
        printed="15 to 17 bounds a search",
        measured=lambda: (
            f"reproduces with {span(_evaluations(), '{:.0f}')} evaluations of bounds "
            f"(mean {np.mean(_evaluations()):.1f}), though margins need not fall with eps"
        ),
        note="What is returned was itself certified (`tests/propagation/test_radius.py`).",
        command="benchmarks.radius.run",
    ),
    Line(
        where="text, special cases",
        claim="Fast-Lin and CROWN are special cases",
        measured="reproduces: `fastlin` meets the records of Fast-Lin's own program, and `crown` on ReLU networks is "
        "`cnncert`",
        command=RADII,
    ),
    Line(
        where="text, activations",
        claim="for other activations CNN-Cert's lines certify more than CROWN's",
        printed="up to 260%",
        measured=lambda: (
            "the direction reproduces, the size does not: "
            f"{radii.gains('cnncert', 'crown', *curved('mnist_cnn_4layer_5_3'))} on 4 layers, "
            f"{radii.gains('cnncert', 'crown', *curved('cifar_cnn_5layer_5_3'))} on CIFAR, "
            f"{radii.gains('cnncert', 'crown', *curved('mnist_cnn_8layer_5_3'))} on 8 layers, "
            f"{radii.gains('cnncert', 'crown', *curved('mnist_lenet5_avg'))} on LeNet-5. On LeNet with max pooling "
            f"`cnncert` comes to {radii.gains('cnncert', 'crown', *curved('mnist_lenet'))} over `crown`"
        ),
        note="There it takes the paper's upper plane as well, and `crown` the default one.",
        command=radii.run(*curved("mnist_cnn_4layer_5_3"), *curved("mnist_cnn_8layer_5_3")),
    ),
    Line(
        where="text, times",
        claim="faster than CROWN, by explicit convolutions",
        printed="2.5 to 11.4 times",
        measured=lambda: (
            "the two relaxations run in the same program here, and cost the same a bound: "
            f"{span(_per_bound(), '{:.2f}')} times a bound's processor seconds"
        ),
        note="For convolutions as such see table 4.",
        command=radii.run(*curved("mnist_cnn_4layer_5_3")),
    ),
    Line(
        where="table 3, sizes",
        claim="hidden nodes",
        printed="8680, 34720, 10680, 19100, 29360",
        measured=lambda: f"reproduce: {joined(runs.hidden_nodes(CNN4, CNN20, CNN5, CIFAR7, CIFAR10), '{:.0f}')}",
        note="Values that enter an activation, without the ten logits.",
        command=radii.run(CNN4, CNN20, CNN5, CIFAR7, CIFAR10)[0],
    ),
    Line(
        where="table 3",
        claim="adaptive slopes certify more than Fast-Lin",
        printed="+14 to +25%",
        measured=lambda: (
            f"depends on the weights: {radii.gains('cnncert', 'fastlin', CNN5)} on 5 layers, "
            f"{radii.gains('cnncert', 'fastlin', CNN4)} on 4 layers (where the authors' programs give the same for "
            f"the same images), {radii.gains('cnncert', 'fastlin', CIFAR5)} on 5 layers of CIFAR"
            + _more("; ", {"20 filters": CNN20, "7 layers of CIFAR": CIFAR7, "10 filters on CIFAR": CIFAR10})
        ),
        command=radii.run(CNN4, CNN5, CIFAR5),
        open=[
            Open(
                "20 filters",
                radii.run(CNN20),
                2 * HOUR,
                "4 layers of 5 filters",
                lambda: radii.all_done([CNN20], ["fastlin", "cnncert"]),
            ),
            Open(
                "CIFAR with 7 layers and with 10 filters",
                radii.run(CIFAR7, CIFAR10),
                4 * HOUR,
                "5 layers of 5 filters",
                lambda: radii.all_done([CIFAR7, CIFAR10], ["fastlin", "cnncert"]),
            ),
        ],
    ),
    Line(
        where="table 3, Global-Lips",
        claim="Global-Lips certifies next to nothing",
        measured=lambda: (
            "reproduces in L-inf ("
            f"{radii.share(CONVOLUTIONAL, ['linf'], 'lipschitz')} of `adaptive`'s radius on convolutions), not in L2: "
            f"{radii.share([CNN4, NORMAL, LENET], ['l2'], 'lipschitz')} on the 4-layer networks and LeNet with max "
            f"pooling, {radii.share([CNN5, NO_POOL], ['l2'], 'lipschitz')} on 5 layers and LeNet without, "
            f"{radii.share(RESNETS[:2], ['l2'], 'lipschitz')} on residual networks, "
            f"{radii.share(MLPS, ['l2'], 'lipschitz')} on the MLPs; L1: "
            f"{radii.share(CONVOLUTIONAL, ['l1'], 'lipschitz')}, and {radii.share(MLPS, ['l1'], 'lipschitz')} on the "
            "MLPs"
        ),
        command=radii.compare(),
    ),
    Line(
        where="table 3, Dual-LP",
        claim="CNN-Cert-Ada certifies more than Dual-LP",
        printed="+8%",
        note="`lp` is that comparator: one linear relaxation of the whole network, bounded by its dual prices.",
        open=[Open("radii of `lp` beside `cnncert`", radii.compare(CNN4), 2 * HOUR, "none stored yet")],
    ),
    Line(
        where="table 3, attacks",
        claim="attacks leave a gap, widest for L1",
        printed="3 to 130 times",
        measured=lambda: (
            "reproduces: mean distance of attacks over mean certified radius is "
            f"{radii.times(CONVOLUTIONAL, ['linf'], 'attack')} in L-inf, "
            f"{radii.times(CONVOLUTIONAL, ['l2'], 'attack', '{:.0f}')} in L2 and "
            f"{radii.times(CONVOLUTIONAL, ['l1'], 'attack', '{:.0f}')} in L1 on convolutional and residual networks, "
            f"{radii.times(MLPS, NORMS, 'attack')} on the MLPs"
        ),
        note="On no image does an attack come nearer than a certified radius: the script stops if one does.",
        command=radii.compare(),
    ),
    Line(
        where="table 3, CLEVER",
        claim="CLEVER lies between certified radii and attacks",
        measured=lambda: (
            "reproduces for means, but for the MLPs in L1, where it ends at the radius it samples in; by image "
            f"it is below the certified radius for {_clever('below')} of {_images()} ({_below_on_mlps()} of them "
            f"those) and beyond the attack for {_clever('beyond')}"
        ),
        command=radii.compare(),
    ),
    Line(
        where="table 4, convolutions",
        claim="exploiting convolutions is faster than dense matrices",
        printed="3 to 10 times, 17 in the abstract",
        measured=lambda: (
            "reproduces, more so: patches against dense maps of the same network, "
            f"{runs.densify('linf'):.0f} times (L-inf) and {runs.densify('l2'):.0f} times (L2)"
        ),
        note="The dense side builds its matrices in every pass.",
        command=(radii.run(CNN4)[0], "benchmarks.peers.densify"),
    ),
    Line(
        where="table 4, sparse matrices",
        claim="an optimised, sparse Fast-Lin is slower still",
        printed="1.4 to 5.2 times",
        open=[Open("sparse Fast-Lin", "benchmarks.peers.densify", 600.0, "the dense form of the same network")],
    ),
    Line(
        where="table 4, seconds",
        claim="seconds an image",
        printed="0.9 to 21",
        measured=lambda: (
            f"{span(_seconds(CNN4, CNN5), '{:.2f}')} on 4 and 5 layers in batches; against their program as "
            f"recorded while quiet on the same kind of machine {runs.faster(CNN4, 'CNN-Cert')} times faster on 4 "
            "layers, "
            f"{runs.faster('mnist_lenet', 'CNN-Cert')} on LeNet, {runs.faster(SEVEN_SMALL, 'CNN-Cert')} on 7 small "
            f"layers, {runs.faster(WIDE_MLP, 'CNN-Cert')} on the MLP"
        ),
        command=radii.run(CNN4, CNN5),
        open=[
            Open(
                "20 filters, CIFAR with 7 layers or 10 filters",
                radii.run(CNN20, CIFAR7, CIFAR10),
                6 * HOUR,
                "4 and 5 layers of 5 filters",
                lambda: radii.all_done([CNN20, CIFAR7, CIFAR10], ["cnncert"]),
            ),
        ],
    ),
    Line(
        where="table 4, Dual-LP",
        claim="faster than Dual-LP",
        printed="366 times",
        open=[Open("seconds of `lp` beside `cnncert`", radii.compare(CNN4), 2 * HOUR, "none stored yet")],
    ),
    Line(
        where="table 4, CLEVER",
        claim="faster than CLEVER",
        printed="8 to 87 times",
        measured=lambda: (
            f"{span(_clever_time())} times, with 100 batches of 256 gradients (theirs: 500 of 1024) and first "
            "runs, compilation included, on both sides"
        ),
        command=radii.compare(),
    ),
    Line(
        where="text, complexity",
        claim="time grows as r^2 m^6 k^4 n^3",
        measured=lambda: (
            f"lower over this range: m^{runs.exponent('depth'):.1f} from {runs.sizes('depth')} convolutions "
            f"and n^{runs.exponent('width'):.1f} from {runs.sizes('width')} filters; counted multiplications grow as "
            f"m^{runs.exponent('depth', counted=True):.1f} and n^{runs.exponent('width', counted=True):.1f}"
        ),
        command=(radii.run(CNN4)[0], "benchmarks.peers.growth --resume"),
        open=[
            Open(
                "the exponents of r (images' size) and k (filters' size)",
                "benchmarks.peers.growth --resume",
                600.0,
                "m and n",
                lambda: stored(lambda: (runs.exponent("image"), runs.exponent("kernel"))),
            ),
        ],
    ),
    Line(
        where="table 5",
        claim="adaptive slopes certify more: LeNet, 7 layers, LeNet without pooling, with batch normalisation",
        printed="+6%, +16 to +18%, +17 to +23%, +23 to +26%",
        measured=lambda: (
            f"{radii.gains('adaptive', 'fastlin', LENET)} (LeNet), "
            f"{radii.gains('adaptive', 'fastlin', SEVEN_SMALL)} (7 layers of fewer filters), "
            f"{radii.gains('cnncert', 'fastlin', NO_POOL)} (no pooling), "
            f"{radii.gains('cnncert', 'fastlin', NORMAL)} (batch normalisation)"
            + _more("; ", {"7 layers at full width": SEVEN}, "adaptive")
        ),
        note="Networks with max pooling are compared with the same planes for both.",
        command=radii.run(LENET, NO_POOL, NORMAL, SEVEN_SMALL),
        open=[
            Open(
                "7 layers at full width",
                radii.run(SEVEN),
                8 * HOUR,
                "7 layers of a quarter of the filters",
                lambda: radii.all_done([SEVEN], ["fastlin", "adaptive"]),
            )
        ],
    ),
    Line(
        where="table 5, pooling",
        claim="LeNet without pooling has larger radii than LeNet with it",
        printed="2.3 to 3.7 times",
        measured=lambda: (
            f"much less so: {_over((NO_POOL, 'cnncert'), (LENET, 'adaptive'))} times, and "
            f"{_over((NO_POOL, 'cnncert'), (LENET, 'cnncert'))} times with their plane on LeNet (`cnncert`)"
        ),
        note="Both are trained separately, so weights differ too.",
        command=radii.run(LENET, NO_POOL),
    ),
    Line(
        where="table 5, batch normalisation",
        claim="batch normalisation shrinks radii",
        measured=lambda: (
            f"reproduces: {radii.means(NORMAL, 'cnncert', '{:.3f}')} against "
            f"{radii.means(CNN4, 'cnncert', '{:.3f}')} (the 4-layer networks)"
        ),
        command=radii.run(NORMAL, CNN4),
    ),
    Line(
        where="table 5, Global-Lips",
        claim="with batch normalisation Global-Lips certifies nine times CNN-Cert's radius in L2",
        printed="0.30",
        measured=lambda: (
            "does not reproduce: with the layer's scales counted it certifies "
            f"{radii.compared_mean(NORMAL, 'l2', 'lipschitz'):.3f}, beside `adaptive`'s "
            f"{radii.compared_mean(NORMAL, 'l2', 'certified'):.3f}"
        ),
        command=radii.compare(NORMAL),
    ),
    Line(
        where="table 5, ten images",
        claim="ten images stand for a hundred",
        measured=lambda: f"reproduces where measured: {_hundred()}",
        command=radii.run(CNN4),
        open=[
            Open(
                "every other batch of a hundred",
                "benchmarks.radius.run --patience 3600",
                12 * HOUR,
                "one batch of a hundred",
                lambda: radii.all_done([CNN4, CNN5, CNN8], ["fastlin", "cnncert"], 100),
            )
        ],
    ),
    Line(
        where="table 5, Tiny ImageNet",
        claim="Tiny ImageNet, 7 layers",
        open=[
            Open(
                "Tiny ImageNet",
                "benchmarks.radius.run",
                None,
                "its images are not here; the shape, untrained, is bounded",
            )
        ],
    ),
    Line(
        where="table 6",
        claim="ResNet-2, 3, 4 with ReLU: adaptive slopes certify more",
        printed="+4 to +23%",
        measured=lambda: (
            "**not a target**, the printed bounds are unsound. Sound radii of `adaptive`: "
            f"{_resnet(RESNETS[0])} on ResNet-2 and {_resnet(RESNETS[1])} on ResNet-3, {_of_printed(RESNETS[0])} and "
            f"{_of_printed(RESNETS[1])} of the printed ones"
            + _more("; over Fast-Lin ", dict(zip(("ResNet-2", "ResNet-3", "ResNet-4"), RESNETS, strict=True)))
        ),
        command=radii.compare(*RESNETS[:2]),
        open=[
            Open(
                "the improvement over parallel slopes",
                radii.run(*RESNETS),
                1.5 * HOUR,
                "the radii of `adaptive`",
                lambda: radii.all_done(RESNETS, ["fastlin", "cnncert"]),
            )
        ],
    ),
    Line(
        where="table 7, times",
        claim="other activations cost no more time",
        measured=lambda: (
            f"nearly: a search with CNN-Cert's lines costs {_time('cnncert')} times the processor seconds of "
            "one with ReLU"
        ),
        note="It takes a few evaluations more.",
        command=radii.run(CNN8, *curved("mnist_cnn_8layer_5_3")),
    ),
    Line(
        where="table 7",
        claim="8 layers: sigmoid certifies more than ReLU, tanh less",
        printed="4 times, half",
        measured=lambda: (
            f"sigmoid does not: {_activation('mnist_cnn_8layer_5_3', 'sigmoid')} times; tanh "
            f"{_activation('mnist_cnn_8layer_5_3', 'tanh')} and arctan "
            f"{_activation('mnist_cnn_8layer_5_3', 'arctan')} times. On "
            f"4 layers sigmoid {_activation('mnist_cnn_4layer_5_3', 'sigmoid')} times, tanh "
            f"{_activation('mnist_cnn_4layer_5_3', 'tanh')} and arctan {_activation('mnist_cnn_4layer_5_3', 'arctan')}"
        ),
        command=radii.run(CNN8, *curved("mnist_cnn_8layer_5_3")),
    ),
    Line(
        where="table 7, pooled",
        claim="LeNet and 7 layers with sigmoid, tanh, arctan",
        measured=lambda: (
            "**not a target**: max pooling after tanh or sigmoid. Soundly on LeNet with the same lines and "
            f"plane {_linf('cnncert')} (L-inf), with the default {_linf('adaptive')}"
        ),
        command=radii.run(*curved("mnist_lenet")),
        open=[
            Open(
                "7 layers with tanh and arctan",
                radii.run("mnist_cnn_7layer_tanh", "mnist_cnn_7layer_arctan"),
                16 * HOUR,
                "LeNet",
                lambda: radii.all_done(["mnist_cnn_7layer_tanh", "mnist_cnn_7layer_arctan"], ["cnncert"]),
            )
        ],
    ),
    Line(
        where="table 7, ResNet-3",
        claim="ResNet-3 with sigmoid, tanh, arctan",
        measured=lambda: (
            "**not a target**: unsound. Sound radii: "
            + "; ".join(
                found(
                    lambda n=name: f"{radii.means(n, 'cnncert')} ({n.rpartition('_')[2]})"
                    for name in curved("mnist_resnet_3")
                )
            )
        ),
        command=radii.run(*curved("mnist_resnet_3")),
        open=[
            Open(
                "sound radii",
                radii.run(*curved("mnist_resnet_3")),
                1.5 * HOUR,
                "ResNet-3 with ReLU",
                lambda: radii.all_done(curved("mnist_resnet_3"), ["cnncert"]),
            )
        ],
    ),
    Line(
        where="table 8",
        claim="MLPs: adaptive slopes certify more than Fast-Lin",
        printed="+2 to +4%",
        measured=lambda: (
            f"4 layers of 100 (not in the paper): {radii.gains('cnncert', 'fastlin', WIDE_MLP)}"
            + _more("; ", {"2 layers of 20": MLPS[0], "3 layers of 20": MLPS[1]})
        ),
        note="On the MLPs of 20 nodes tests meet the radii of the authors' programs (`tests/reference/test_radii.py`).",
        command=radii.run(WIDE_MLP),
        open=[
            Open(
                "the MLPs of 20 nodes",
                radii.run(*MLPS),
                300.0,
                "met by tests at single radii",
                lambda: radii.all_done(MLPS, ["fastlin", "cnncert"]),
            )
        ],
    ),
    Line(
        where="table 8, Dual-LP",
        claim="MLPs: CNN-Cert within a few percent of Dual-LP",
        printed="1 to 15%",
        open=[Open("radii of `lp` on the MLPs", radii.compare(*MLPS), 600.0, "none stored yet")],
    ),
    Line(
        where="table 8, exact",
        claim="MLPs: CNN-Cert certifies half of the exact distance (Reluplex; 2 layers, L-inf)",
        measured=lambda: (
            f"does not reproduce here: certified radii are {_attacked(MLPS[0])} of an attack's distance on "
            f"average, so at least that of the exact one (3 layers: {_attacked(MLPS[1])})"
        ),
        command=radii.compare(*MLPS),
        open=[Open("the exact distance, by `split`", radii.compare(*MLPS), 900.0, "an attack's distance")],
    ),
    Line(
        where="tables 9, 13",
        claim="padding and strides; CROWN gives the same radii as CNN-Cert on ReLU networks",
        open=[
            Open(
                "networks with padding and strides",
                radii.run(CNN4),
                900.0,
                "padding and strides are covered by the tests of soundness",
            )
        ],
    ),
]


def _more(before: str, named: dict[str, str], better: str = "cnncert") -> str:
    """The gains over Fast-Lin of those of some networks that are measured, behind a word; else nothing."""
    there = {word: name for word, name in named.items() if stored(lambda n=name: radii.gains(better, "fastlin", n))}
    said = [f"{radii.gains(better, 'fastlin', name)} on {word}" for word, name in there.items()]
    return before + ", ".join(said) if said else ""


def _per_bound() -> list[float]:
    def bound(network: str, norm: str, relaxation: str) -> float:
        return radii.cpu(network, norm, relaxation) / radii.entry(network, norm, relaxation)["evaluations"]

    pairs = [(n, m) for n in curved("mnist_cnn_4layer_5_3") for m in NORMS]
    return found(lambda n=n, m=m: bound(n, m, "crown") / bound(n, m, "cnncert") for n, m in pairs)


def _seconds(*networks: str) -> list[float]:
    return found(lambda n=n, m=m: radii.search(n, m, "cnncert").seconds for n in networks for m in NORMS)


def _resnet(network: str) -> str:
    return joined(found(lambda m=norm: radii.compared_mean(network, m, "certified") for norm in NORMS), "{:.4f}")


def _of_printed(network: str) -> str:
    theirs = tables.printed()["cnncert_3_to_8"][network]["cnncert"]
    some = found(lambda m=norm: 100 * radii.compared_mean(network, m, "certified") / theirs[m] for norm in NORMS)
    return span(some, "{:.0f}", "%")


def _linf(relaxation: str) -> str:
    some = found(lambda n=name: radii.search(n, "linf", relaxation).mean for name in curved("mnist_lenet"))
    return joined(some, "{:.3f}")


PAPER = Paper(
    title="CNN-Cert",
    source="Boopathy, Weng, Chen, Liu, Daniel, AAAI 2019",
    holds=HOLDS,
    lines=LINES,
    tables={table: lambda table=table: _grid(table) for table in ("3", "4", "5", "6", "8")}
    | {"7": lambda: _curves() + "\n\n" + _grid("7")},
)
