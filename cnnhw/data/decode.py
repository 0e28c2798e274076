"""From the bytes of a file to a square RGB photo, for one photo or thousands."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cnnhw.data import pixels
from cnnhw.errors import DataError

__all__ = ["FORMATS", "decode", "decode_all", "read_photo"]

VERSION = "-".join(("2", *pixels.HEIF))
"""Part of the key of stored photos: to be raised when `decode` gives other pixels; an extra reads more of them."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", *pixels.HEIF)
PIXEL_LIMIT = 100_000_000


def decode(data: bytes, size: int, crop: bool = False) -> NDArray[np.uint8]:
    """Decode a file's bytes to an RGB array of shape (S, S, 3), uint8, upright; DataError has a short reason."""
    if not data:
        raise DataError("empty file")
    try:
        return _decode(data, size, crop)
    except DataError:
        raise
    except Exception as first:  # Pillow's readers raise almost anything on damaged files
        error = first
    try:
        if mended := pixels.png_essence(data):
            return _decode(mended, size, crop)
        if mended := pixels.tiff_black_is_zero(data):
            return 255 - _decode(mended, size, crop)
    except DataError:
        raise
    except Exception as second:
        error = second
    raise DataError(_reason(error, data)) from error


def _decode(data: bytes, size: int, crop: bool) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > PIXEL_LIMIT:
            raise DataError(f"more than {PIXEL_LIMIT // 10**6} megapixels")
        image.draft(None, (2 * size, 2 * size))  # large JPEGs: decode no finer than needed
        image.load()
        upright = _rgb(pixels.eight_bits(_upright(image), image, data))
    if crop:
        edge = min(upright.size)
        left, top = (upright.width - edge) // 2, (upright.height - edge) // 2
        upright = upright.crop((left, top, left + edge, top + edge))
    small = upright.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small)


def _reason(error: Exception, data: bytes) -> str:
    """Say why a file cannot be decoded."""
    said = str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {PIXEL_LIMIT // 10**6} megapixels"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, UnidentifiedImageError):
        return pixels.unidentified(data) or f"not a photo in a known format ({', '.join(FORMATS)})"
    if re.search("unsupported|not supported|unknown|unrecognized|cannot handle|not available", said, re.IGNORECASE):
        return f"of a kind that cannot be read: {said}"
    return f"damaged: {said}"


def shorter_side(data: bytes | OSError) -> int:
    """Return the shorter side of a photo in pixels, read from its header; 0 if it is not a photo."""
    try:
        with Image.open(BytesIO(data if isinstance(data, bytes) else b""), formats=FORMATS) as image:
            return min(image.size)
    except Exception:  # as in `decode`
        return 0


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # damaged EXIF data are no reason to refuse a whole photo
        return ImageOps.exif_transpose(image)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_photo(path: str | Path, size: int = 128, crop: bool = False) -> Tensor:
    """Read one photo from a file.

    Parameters
    ----------
    path : str or Path
        The file.
    size : int
        The side length S wanted, in pixels.
    crop : bool
        Cut the largest centred square out; otherwise the whole photo is squashed to a square.

    Returns
    -------
    Tensor of shape (3, S, S), uint8
        RGB.

    Raises
    ------
    DataError
        If the file cannot be read, or is not a photo.

    Examples
    --------
    >>> import cnnhw
    >>> cnnhw.data.read_photo("pets/cats/0.png", size=32).shape
    torch.Size([3, 32, 32])
    """
    try:
        photo = decode(Path(path).read_bytes(), size, crop)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except DataError as error:
        raise DataError(f"{path} cannot be used: {error}") from error
    return torch.from_numpy(photo.transpose(2, 0, 1).copy())


def decode_all(
    contents: Iterable[tuple[str, bytes | OSError]],
    rows: dict[str, int],
    store: NDArray[np.uint8],
    crop: bool = False,
    progress: bool = True,
) -> tuple[dict[str, str], dict[str, str], tuple[int, int]]:
    """Decode files into `store` (M, 3, S, S) by threads; return digests, reasons of failure, and the range used.

    The first two are by name. The range, 0 to 255, leaves out the darkest and the brightest 5 % of photos.
    """
    from tqdm import tqdm

    size = store.shape[-1]
    digests: dict[str, str] = {}
    failures: dict[str, str] = {}
    ends: list[tuple[int, int]] = []

    def work(name: str, data: bytes) -> None:
        try:
            store[rows[name]] = photo = decode(data, size, crop).transpose(2, 0, 1)
            ends.append((int(photo.min()), int(photo.max())))
            digests[name] = hashlib.sha256(data).hexdigest()[:16]
        except DataError as error:
            failures[name] = str(error)

    # Threads, as Pillow releases the interpreter while it decodes; a bounded queue, as files can be large.
    workers = min(8, os.cpu_count() or 1)
    waiting: deque[Future[None]] = deque()
    bar = tqdm(total=len(rows), desc=f"decoding to {size}x{size}", unit=" photos", disable=not progress)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool, bar:
        warnings.filterwarnings("ignore", module="PIL")
        for name, data in contents:
            if isinstance(data, OSError):
                failures[name] = f"cannot be read: {data}"
                bar.update()
                continue
            waiting.append(pool.submit(work, name, data))
            if len(waiting) >= 4 * workers:
                waiting.popleft().result()
                bar.update()
        for future in waiting:
            future.result()
            bar.update()
    few = len(ends) // 20
    darkest, brightest = (sorted(column) for column in zip(*ends, strict=True)) if ends else ([0], [255])
    return digests, failures, (darkest[few], brightest[-1 - few])
