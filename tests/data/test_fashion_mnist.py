"""The idx reader on files made here, and Fashion-MNIST where it is installed."""

import gzip
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.fashion_mnist import CLASSES, FOLDER, read_fashion_mnist, read_idx
from assay.errors import CannotMeasure


def zipped(content):
    """Without the time, which would make the tests' names differ from one process to another."""
    return gzip.compress(content, mtime=0)


def idx(shape, elements, magic=b"\0\0\x08"):
    """The bytes of an idx file, written out by the format's definition."""
    return magic + bytes([len(shape)]) + b"".join(struct.pack(">I", s) for s in shape) + elements


def write(path, content):
    path.write_bytes(zipped(content))
    return path


def write_dataset(folder, train=3, test=2, labels=None):
    for part, count in (("train", train), ("t10k", test)):
        pixels = bytes(i % 256 for i in range(count * 4))
        write(folder / f"{part}-images-idx3-ubyte.gz", idx((count, 2, 2), pixels))
        names = bytes(range(count if labels is None else labels))
        write(folder / f"{part}-labels-idx1-ubyte.gz", idx((len(names),), names))


@settings(max_examples=30)
@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_what_was_written_is_read(tmp_path_factory, shape, seed):
    values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    content = idx(shape, bytes(values.flatten().tolist()))
    path = write(tmp_path_factory.mktemp("idx") / "a.gz", content)
    assert torch.equal(read_idx(path), values.to(torch.uint8))


def test_a_data_set_is_read(tmp_path):
    write_dataset(tmp_path)
    train = read_fashion_mnist(tmp_path)
    assert train.inputs[0].shape == (3, 1, 2, 2)
    torch.testing.assert_close(train.inputs[0][1, 0], torch.tensor([[4.0, 5], [6, 7]]) / 255)
    assert train.targets.tolist() == [0, 1, 2]
    assert train.holdout is not None
    assert len(train.holdout) == 2


WHOLE = idx((2, 3), bytes(6))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (zipped(WHOLE)[:-9], "complete gzip file"),
        (zipped(WHOLE)[:12], "complete gzip file"),
        (WHOLE, "complete gzip file"),
        (b"", "two zero bytes"),
        (zipped(b"PK\x03\x04 something else"), "504b0304"),
        (zipped(idx((2, 3), bytes(6), magic=b"\0\0\x0d")), "not 0d"),
        (zipped(WHOLE[:7]), "2 dimensions, but it ends within them"),
        (zipped(WHOLE[:-1]), "6 elements, but it holds 5"),
        (zipped(WHOLE + b"\0"), "6 elements, but it holds 7"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, says):
    path = tmp_path / "damaged.gz"
    path.write_bytes(content)
    with pytest.raises(CannotMeasure, match=says) as caught:
        read_idx(path)
    assert "damaged.gz" in str(caught.value)


def test_images_without_labels_are_refused(tmp_path):
    write_dataset(tmp_path, labels=1)
    with pytest.raises(CannotMeasure, match="as many labels"):
        read_fashion_mnist(tmp_path)


def test_a_missing_file_is_named_with_its_remedy(tmp_path):
    with pytest.raises(CannotMeasure, match="apt-get install dataset-fashion-mnist"):
        read_fashion_mnist(tmp_path / "nowhere")


@pytest.mark.skipif(not FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_data_set():
    train = read_fashion_mnist()
    assert train.inputs[0].shape == (60_000, 1, 28, 28)
    assert train.targets.bincount().tolist() == [6000] * len(CLASSES)
    assert train.holdout is not None
    assert train.holdout.targets.bincount().tolist() == [1000] * len(CLASSES)
    assert (float(train.inputs[0].min()), float(train.inputs[0].max())) == (0.0, 1.0)
