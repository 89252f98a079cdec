"""Data sources: where the samples of a specification come from. No TensorFlow, no pickles, no downloads.

Every source is a file of this folder with a function of its name, found through ``tfcert.catalog``. It answers with
plain arrays in *raw* space (the values as stored): ``x`` ``[samples, ...]`` and labels ``y`` ``[samples]`` or
None (stored as a column or as one-hot rows they are taken too). Scaling and normalisation belong to the specification.
"""

from tfcert.datasets.base import DatasetError, Samples, interleave
from tfcert.datasets.csv import csv, csv_columns
from tfcert.datasets.digits import digits
from tfcert.datasets.idx import idx
from tfcert.datasets.images import images
from tfcert.datasets.keras import keras
from tfcert.datasets.load import confine, from_memory, load_dataset
from tfcert.datasets.mat import mat
from tfcert.datasets.mnist5k import mnist5k
from tfcert.datasets.npz import npz
from tfcert.datasets.public import svhn

__all__ = [
    "DatasetError",
    "Samples",
    "confine",
    "csv",
    "csv_columns",
    "digits",
    "from_memory",
    "idx",
    "images",
    "interleave",
    "keras",
    "load_dataset",
    "mat",
    "mnist5k",
    "npz",
    "svhn",
]
