"""Fashion-MNIST: 70 000 grey images of clothes, 28 by 28 pixels, ten classes; and its idx file format.

Debian and Ubuntu ship the four original files in the package `dataset-fashion-mnist`; the same files from
anywhere else do as well. Nothing is downloaded.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from assay.errors import CannotMeasure, verbatim
from assay.subject import Examples

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

_UNSIGNED_BYTE = 8  # the only one of the element types of idx that these files use


def read_fashion_mnist(folder: str | Path = FOLDER) -> Examples:
    """Read Fashion-MNIST.

    Pixels are divided by 255 and nothing else: subtracting the mean of the images would put a number taken
    from the data into a certificate's model without paying for its bits (Theory L1).

    Args:
        folder: Where `train-images-idx3-ubyte.gz` and its three companions lie.

    Returns:
        60 000 training examples, images `[N, 1, 28, 28]` in [0, 1] and labels `[N]` from 0 to 9, with the
        10 000 test examples as `holdout`.

    Raises:
        CannotMeasure: If a file is missing, damaged, or does not hold what its name says.
    """
    return _read_part(Path(folder), "train", _read_part(Path(folder), "t10k", None))


def _read_part(folder: Path, part: str, holdout: Examples | None) -> Examples:
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
        raise CannotMeasure(
            "examples",
            verbatim(f"images {list(images.shape)} and labels {list(labels.shape)} in {folder}"),
            "images [N, height, width] and as many labels [N]",
            "Take the four files from one source.",
        )
    return Examples(
        (images.unsqueeze(1).float() / 255,),
        labels.long(),
        holdout=holdout,
        name=f"Fashion-MNIST, {'training' if part == 'train' else 'test'} images",
    )


def read_idx(path: str | Path) -> Tensor:
    """Read one gzipped idx file of unsigned bytes, the format of MNIST and its successors.

    The format: two zero bytes, the element type, the number of dimensions, each dimension as four bytes,
    the largest first, then the elements in row-major order.

    Args:
        path: A file ending in `.gz`.

    Returns:
        A uint8 tensor of the shape that the file states.

    Raises:
        CannotMeasure: If the file is missing, not gzip, cut short, too long, or of another type.
    """
    path = Path(path)
    try:
        with gzip.open(path) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise CannotMeasure(
            "examples",
            str(path),
            "the file to exist",
            "On Debian or Ubuntu: `apt-get install dataset-fashion-mnist`. "
            f"Elsewhere, put the four .gz files of Fashion-MNIST into {path.parent}.",
        ) from error
    except (EOFError, OSError, zlib.error) as error:
        _refuse(path, f"a complete gzip file, but reading stopped with: {error}")
    if len(content) < 4 or content[:2] != b"\0\0":
        _refuse(path, f"two zero bytes first, but it starts with {content[:4].hex()}")
    if content[2] != _UNSIGNED_BYTE:
        _refuse(path, f"elements of type 08 (unsigned byte), not {content[2]:02x}")
    start = 4 + 4 * content[3]
    if len(content) < start:
        _refuse(path, f"{content[3]} dimensions, but it ends within them")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if len(content) - start != math.prod(shape):
        _refuse(path, f"{math.prod(shape)} elements, but it holds {len(content) - start}")
    elements = np.frombuffer(content, dtype=np.uint8, offset=start).copy()
    return torch.from_numpy(elements).reshape(shape)


def _refuse(path: Path, expected: str) -> NoReturn:
    raise CannotMeasure("examples", str(path), expected, "Install or copy the file again.")
