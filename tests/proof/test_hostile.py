"""Files that somebody made to deceive the checker, or to keep it busy: sentences, not crashes, and little work."""

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from proof import small
from tfcert.proof import files
from tfcert.proof.__main__ import main
from tfcert.proof.check import check, claim_of, read_claim
from tfcert.proof.errors import ProofError
from tfcert.proof.files import arrays_of

ROWS = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]]), np.array([5.0, 5.0])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model and a certificate of a true claim: its path, head and arrays."""
    folder = tmp_path_factory.mktemp("made")
    path, graph = small.saved(small.dense(), folder)
    claim = small.claim(graph, np.full(3, 0.5, np.float32), "1/100", ROWS, clip=(0, 1))
    assert check(claim, graph).proven
    return path, graph, claim


def written(path, head, arrays):
    np.savez_compressed(path, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
    return path


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return path


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


HUGE = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }")
FILES = {
    "nothing": b"",
    "no zip": b"PK\x03\x04" + bytes(100),
    "no head": [("x.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", bytes(8)))],
    "longer than it is": [("head.npy", HUGE)],
    "negative": [("head.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }", bytes(8)))],
    "a pickle": [("head.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n."))],
    "columns first": [("head.npy", npy("{'descr': '<f8', 'fortran_order': True, 'shape': (1, 1), }", bytes(8)))],
    "code for a header": [("head.npy", npy("__import__('os').system('true')"))],
    "a long header": [("head.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 30000 + ")}"))],
    "no array": [("head.npy", b"nothing")],
    "a name twice": [("head.npy", HUGE), ("head.npy", HUGE)],
    "many members": [(f"{i}.npy", b"") for i in range(4097)],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", FILES)
def test_files_that_are_no_certificates_are_refused(what, tmp_path):
    path, content = tmp_path / "c.npz", FILES[what]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        archive(path, content)
    with pytest.raises(ProofError):
        read_claim(path)
    assert main([str(path)]) == 1


def test_a_small_file_that_unpacks_to_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_CERTIFICATE", 1 << 23)
    bomb = archive(tmp_path / "c.npz", [(f"{i}.npy", bytes(1 << 22)) for i in range(3)])
    assert bomb.stat().st_size < 1 << 16
    tracemalloc.start()
    with pytest.raises(ProofError, match="unpacks to more"):
        arrays_of(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_member_that_is_longer_than_it_says_is_refused(tmp_path):
    path = archive(
        tmp_path / "c.npz", [("head.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (64,), }", bytes(64)))]
    )
    content = bytearray(path.read_bytes())
    length = (128 + 64).to_bytes(4, "little")
    place = content.rindex(length)  # in the directory, where sizes are looked up
    content[place : place + 4] = (128).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    with pytest.raises(ProofError):
        arrays_of(path)


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{}", "nothing", "{" * 100_000, '{"a":' * 50_000, '{"format": NaN}', '{"format": 1, "format": 1}',
        '{"version": ' + "1" * 10_000 + "}", "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
        '{"format": "tfcert certificate", "version": 2}', '{"format": "tfcert certificate", "version": 1}', "null",
        " " * (5 << 20),
    ],
)  # fmt: skip
def test_heads_that_are_no_heads_are_refused(text, tmp_path):
    path = tmp_path / "c.npz"
    np.savez_compressed(path, head=np.frombuffer(text.encode(), np.uint8))
    with pytest.raises(ProofError):
        read_claim(path)


NAN, INF = np.nan, np.inf
CHANGES = {
    "NaN in the centre": ("region/center", np.array([0.5, NAN, 0.5], np.float32)),
    "an infinite centre": ("region/center", np.array([0.5, INF, 0.5], np.float32)),
    "a centre outside of its limits": ("region/center", np.array([0.5, 1.5, 0.5], np.float32)),
    "a centre of another shape": ("region/center", np.full((3, 1), 0.5, np.float32)),
    "a centre of whole numbers": ("region/center", np.zeros(3, np.int64)),
    "limits that exclude each other": ("region/low", np.array([2.0])),
    "infinite limits": ("region/high", np.array([INF])),
    "NaN for a limit": ("region/high", np.array([NAN])),
    "one limit": ("region/high", None),
    "a negative scale": ("region/scale", np.array([-1.0])),
    "NaN for a scale": ("region/scale", np.array([NAN])),
    "NaN in a row": ("rows/C", np.array([[NAN, -1, 0], [1, 0, -1.0]])),
    "an infinite row": ("rows/C", np.array([[INF, -1, 0], [1, 0, -1.0]])),
    "an infinite offset": ("rows/d", np.array([INF, INF])),
    "NaN for an offset": ("rows/d", np.array([NAN, 5.0])),
    "offsets for other rows": ("rows/d", np.array([5.0])),
    "no rows": ("rows/C", np.zeros((0, 3))),
    "rows over other outputs": ("rows/C", np.ones((2, 4))),
    "no clauses": ("rows/clause", None),
    "a clause that is left out": ("rows/clause", np.array([0, 2])),
    "a negative clause": ("rows/clause", np.array([-1, 0])),
    "clauses that are no numbers": ("rows/clause", np.array([0.0, 1.0])),
    "slopes of another shape": ("slopes/2", np.zeros((2, 7), np.uint8)),
    "slopes that are not bytes": ("slopes/2", np.full((2, 5), NAN)),
    "slopes of what has none": ("slopes/1", np.zeros((2, 5), np.uint8)),
    "slopes of no place": ("slopes/99", np.zeros((2, 5), np.uint8)),
    "slopes of nowhere": ("slopes/../../2", np.zeros((2, 5), np.uint8)),
    "bounds that are given": ("bounds/2", np.zeros((2, 5))),
}


@pytest.mark.parametrize("what", CHANGES)
def test_arrays_that_say_nothing_sound_are_refused(what, made):
    _, graph, claim = made
    name, array = CHANGES[what]
    arrays = {key: value for key, value in claim.arrays.items() if key != name}
    arrays |= {} if array is None else {name: array}
    with pytest.raises(ProofError):
        check(claim_of(claim.head, arrays), graph)


@pytest.mark.parametrize(
    ("key", "inner", "value"),
    [
        ("region", "eps", value)
        for value in (
            "1/0",
            "0/0",
            "-1/100",
            "1e-2",
            "0.01",
            0.01,
            None,
            "9" * 500,
            "1" * 300,
            [],
            "1/100 ",
            "\u0661/100",
        )
    ]
    + [("region", "kind", value) for value in ("ellipse", "box", None, [])]
    + [("region", "norm", value) for value in ("l3", None, ["linf"])]
    + [("bounds", "neurons", value) for value in ("none", None, {}, ["lines"])]
    + [("bounds", "rows", None), ("model", "digest", None), ("model", "digest", "0" * 64), ("model", "digest", 7)],
)
def test_heads_that_ask_for_what_there_is_not_are_refused(key, inner, value, made):
    _, graph, claim = made
    head = dict(claim.head) | {key: dict(claim.head[key]) | {inner: value}}
    with pytest.raises(ProofError):
        check(claim_of(head, claim.arrays), graph)


@pytest.mark.parametrize("build", [small.dense, small.curved])
def test_a_false_claim_stays_unproven_whatever_is_chosen(build, tmp_path):
    """A ball that holds a counterexample, with all slopes at their ends, drawn, by rows and by clauses of both."""
    model = build()
    _, graph = small.saved(model, tmp_path)
    outputs = model(np.full((1, 3), 0.5, np.float32)).numpy()[0]
    order = np.argsort(-outputs)
    row = np.eye(3)[order[1]] - np.eye(3)[order[0]]  # the second is above the first: false in the middle itself
    rng = np.random.default_rng(0)
    shapes = {i: p.shape for i, p in enumerate(graph.places) if type(p).__name__ == "Bent"}
    for number in range(40):
        kind = number % 4
        draw = {0: lambda s: np.zeros(s), 1: lambda s: np.full(s, 255), 2: lambda s: rng.integers(0, 256, s)}
        slopes = {f"slopes/{i}": draw.get(kind, draw[2])((1, *s)).astype(np.uint8) for i, s in shapes.items()}
        bounds = {"neurons": ("lines", "intervals")[number % 2], "rows": "lines"}
        forged = small.claim(
            graph, np.full(3, 0.5, np.float32), ("0", "1/1000")[number % 2], ([row], [0.0]), bounds=bounds, **slopes
        )
        assert not check(forged, graph).proven


@pytest.mark.parametrize("file", ["../made.keras", "/etc/hostname", "", "..", None, 3, "a/b", "missing.keras"])
def test_models_are_looked_for_beside_the_certificate_alone(file, made, tmp_path, capsys):
    _, _, claim = made
    head = dict(claim.head) | {"model": {"digest": claim.digest, "file": file}}
    assert main([str(written(tmp_path / "c.npz", head, claim.arrays))]) == 1
    assert "refused" in capsys.readouterr().out


def test_a_claims_words_begin_no_line(made, tmp_path, capsys):
    """Nor move the cursor: what a certificate calls itself could else pass for another one's verdict."""
    path, _, claim = made
    forged = "p\nother.npz: proven at level float32-any-order\r\x1b[2K"
    head = dict(claim.head) | {"claim": {"property": forged, "sample": "\n1"}}
    assert main([str(written(tmp_path / "c.npz", head, claim.arrays)), "--model", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 3 and "\x1b" not in said and "\r" not in said


def test_rows_that_would_not_fit_into_the_memory_are_refused(made, monkeypatch):
    _, graph, claim = made
    monkeypatch.setattr("tfcert.proof.check._NUMBERS", 9)
    with pytest.raises(ProofError, match="memory"):
        check(claim, graph)


def test_trees_whose_ways_would_fill_the_memory_are_refused(made, monkeypatch):
    """Every leaf's way is kept: a long stem below which a tree is wide would take a gigabyte."""
    _, graph, claim = made
    monkeypatch.setattr("tfcert.proof.check._WAYS", 7 * 2)
    stem = {"tree/place": [1, 1, 1, -1, -1, -1, -1], "tree/number": [0] * 7, "tree/at": [0.0] * 7}
    types = {"tree/place": np.int64, "tree/number": np.int64, "tree/at": np.float64}
    arrays = dict(claim.arrays) | {name: np.array(part, types[name]) for name, part in stem.items()}
    with pytest.raises(ProofError, match="too deep"):
        check(claim_of(claim.head, arrays), graph)


def test_another_model_is_no_stand_in(made, tmp_path, capsys):
    path, _, claim = made
    other = small.dense()
    other.layers[0].set_weights([w * 1.0001 for w in other.layers[0].get_weights()])
    other_path, _ = small.saved(other, tmp_path, "other.keras")
    file = written(tmp_path / "c.npz", dict(claim.head), claim.arrays)
    assert main([str(file), "--model", str(other_path)]) == 1
    assert main([str(file), "--model", str(other_path), "--model", str(path)]) == 0
    assert "proven" in capsys.readouterr().out


def test_work_that_would_take_too_long_is_not_begun(made):
    claim = made[2]
    many = 1 << 17
    arrays = dict(claim.arrays) | {
        "rows/C": np.ones((many, 3)), "rows/d": np.ones(many), "rows/clause": np.arange(many),
    }  # fmt: skip
    with pytest.raises(ProofError, match="no rows"):
        claim_of(claim.head, arrays)


def test_negative_zeros_and_numbers_below_the_normal_ones_are_numbers(made):
    _, graph, claim = made
    tiny = np.array([-0.0, 1e-42, 0.5], np.float32)
    assert check(claim_of(claim.head, dict(claim.arrays) | {"region/center": tiny}), graph).margin < np.inf


def test_a_models_archive_is_bounded_too(tmp_path):
    from tfcert.proof.model import read_model

    for members in ([("config.json", b"{}")], [("config.json", b"{}"), ("model.weights.h5", b"nothing")]):
        with pytest.raises(ProofError):
            read_model(archive(tmp_path / "m.keras", members))
    deep = ('{"config": ' * 20_000).encode()
    with pytest.raises(ProofError):
        read_model(
            archive(tmp_path / "m.keras", [("config.json", deep), ("model.weights.h5", io.BytesIO().getvalue())])
        )
