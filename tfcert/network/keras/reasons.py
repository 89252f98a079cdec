"""Why a layer or operation of Keras is not bounded, and what to do: the rest of a sentence, by the name of its class.

``docs/layers.md`` shows them; a test holds them to what this Keras has and what has a converter.
"""

from __future__ import annotations

_BEFORE = "run it before the model and certify the model behind it, whose inputs are numbers"
_WORDS = f"it turns text into whole numbers, of which there is no ball; {_BEFORE}"
_NUMBERS = f"it turns numbers into whole numbers, which jump; {_BEFORE}"
_FOREIGN = "its code is of another library and cannot be read; rebuild it with layers of Keras"
_RECURS = "it is recurrent; write its steps out in a functional model, with convolutions and Multiply"
_CELL = "it is one step of a recurrent layer, and is bounded within one"
_ABSTRACT = "it computes nothing itself"

EMBEDS = (
    "it reads token ids, whole numbers of which there is no ball; tfcert.embedded(model, tokens) cuts a model behind "
    "its embeddings, which may be perturbed, and tfcert.substitutions encloses those of words that may be replaced"
)

LAYERS: dict[str, str] = {
    "CategoryEncoding": _NUMBERS,
    "ConvLSTM1D": _RECURS,
    "ConvLSTM2D": _RECURS,
    "ConvLSTM3D": _RECURS,
    "Discretization": _NUMBERS,
    "Embedding": EMBEDS,
    "FlaxLayer": _FOREIGN,
    "GRUCell": _CELL,
    "HashedCrossing": _WORDS,
    "Hashing": _WORDS,
    "IntegerLookup": _NUMBERS,
    "JaxLayer": _FOREIGN,
    "LSTMCell": _CELL,
    "Lambda": "its code cannot be read; call keras.ops on the tensors of a functional model (y = keras.ops.square(x) "
    "in place of Lambda(keras.ops.square)(x)), name the function in Activation(...) where it acts on single numbers, "
    "or write it as a layer for tfcert.register_layer",
    "Layer": _ABSTRACT,
    "Masking": "which steps it masks depends on the numbers of the input, and jumps; cut the sequence to its length, "
    "or leave it out and call the recurrent layers with a constant mask=...",
    "MelSpectrogram": f"it takes logarithms of magnitudes of a Fourier transform; {_BEFORE}",
    "ReversibleEmbedding": EMBEDS,
    "STFTSpectrogram": f"it takes magnitudes of a Fourier transform; {_BEFORE}",
    "SimpleRNNCell": _CELL,
    "StackedRNNCells": _CELL,
    "StringLookup": _WORDS,
    "TFSMLayer": _FOREIGN,
    "TextVectorization": _WORDS,
    "TorchModuleWrapper": _FOREIGN,
    "Wrapper": _ABSTRACT,
}

_TRUTH = (
    "its result is a truth value or a whole number, which jumps where numbers move; write choices between numbers with "
    "maximum, minimum, relu, clip or sign, or ask for the comparison in the property"
)
_STEPS = "it jumps; tfcert.register_activation bounds a function of one number whose jumps you name"
_BITS = "it works on whole numbers, and the network's are not; run it before the model"
_SORTS = "it sorts, and which number comes where may change; ops.max, ops.min and MaxPooling are supported"
_COMPLEX = "it makes or reads complex numbers; a Fourier transform of real numbers is a constant matrix for ops.matmul"
_SOLVES = "it solves equations whose matrix moves with the input; solve before the model, where the matrix is constant"
_RUNS = "it runs code of its own over values, which cannot be read; write its steps out with operations"
_PLACES = "it reads or writes at places that are computed, and places jump; index by numbers and slices"
_LOSSES = "it is a loss or a score of two things; ask for its order in the property, or write it with operations"
_WARPS = "it reads an image at places between pixels; UpSampling and Resizing, whose places are constant, are layers"
_OF_ONE = "tfcert.register_activation bounds a function of one number"
_COUNTS = "it counts or measures shapes, which are known when the model is built; use the number"
_WRITE_OUT = "it has no converter; write it with operations that have one, or as a layer for tfcert.register_layer"
_CONSTANT = "it makes a constant, and needs no input; call it on constants alone"
_NANS = "it looks for numbers that are not finite, which a bounded input never makes; leave it out"

_OPERATIONS: dict[str, str] = {
    _TRUTH: """All AllClose Any Argmax Argmin CountNonzero Equal Greater GreaterEqual InTopK IsIn Isclose Isfinite Isinf
        Isnan Isneginf Isposinf Isreal Less LessEqual LogicalAnd LogicalNot LogicalOr LogicalXor Nanargmax Nanargmin
        Nonzero NotEqual Signbit""",
    _STEPS: "Ceil Floor FloorDivide Fmod Heaviside Mod Nextafter Round Trunc",
    _BITS: """Bincount BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor Gcd
        Histogram Lcm LeftShift MultiHot OneHot RightShift UnravelIndex View""",
    _SORTS: """Argpartition Argsort Digitize Median Nanmedian Nanpercentile Nanquantile Percentile Quantile SearchSorted
        Sort TopK Unique""",
    _COMPLEX: """Angle Conj Conjugate FFT FFT2 IFFT2 IRFFT ISTFT Imag Polar RFFT Real STFT ViewAsComplex ViewAsReal""",
    _SOLVES: """Cholesky CholeskyInverse Corrcoef Det Eig Eigh Inv Logdet Lstsq LuFactor MatrixRank Pinv Qr SVD Slogdet
        Solve SolveTriangular""",
    _RUNS: "AssociativeScan Cond ForiLoop JVP Map Scan Switch VectorizedMap WhileLoop",
    _PLACES: "Scatter ScatterUpdate Select SegmentMax SegmentMin SegmentProd SegmentReduction SegmentSum TakeAlongAxis",
    _LOSSES: """BinaryCrossentropy CDist CTCDecode CTCLoss CategoricalCrossentropy PSNR SSIM
        SparseCategoricalCrossentropy""",
    _WARPS: "AffineTransform ElasticTransform MapCoordinates PerspectiveTransform ScaleAndTranslate",
    _OF_ONE: "Arccos Arccosh Arcsin Arctanh Cbrt Erfinv I0 Sinc Tan",
    _WRITE_OUT: """AdaptiveAveragePool AdaptiveMaxPool Arctan2 Average BatchNorm ConvTranspose Correlate Cross Cumprod
        Diag Diagflat DivideNoNan DotProductAttention Dstack ExtractPatches ExtractSequences Fold GaussianBlur HSVToRGB
        Inner Kron Ldexp Logaddexp2 Meshgrid Moments Norm Outer Prod RGBToGrayscale RGBToHSV SeparableConv
        SliceUpdate SobelEdges Sparsemax Trace Trapezoid Vdot Vsplit Vstack""",
    _COUNTS: "Ndim Size",
    _CONSTANT: "Arange Array EmptyLike Full Geomspace Linspace Logspace Vander",
    _NANS: "NanToNum Nancumprod Nancumsum Nanmax Nanmean Nanmin Nanprod Nanstd Nansum Nanvar",
}
OPERATIONS: dict[str, str] = {name: why for why, names in _OPERATIONS.items() for name in names.split()}
"""Of operations."""


def reason(kind: type, is_layer: bool) -> str:
    """Why a class of layers or operations is not supported, and what to do; "" where there is nothing to say of it."""
    return (LAYERS if is_layer else OPERATIONS).get(kind.__name__, "")
