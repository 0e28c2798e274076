"""What a photo's file says about its pixels, and files that Pillow refuses although their pixels are whole."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from cnnhw.errors import DataError

try:
    import pillow_heif
except ImportError:  # an extra
    HEIF: tuple[str, ...] = ()
else:
    pillow_heif.register_heif_opener(thumbnails=False)
    HEIF = ("HEIF",)

__all__ = []

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_BITS, _PHOTOMETRIC, _MOST, _SIGN, _LOW, _HIGH = 258, 262, 281, 339, 340, 341  # tags of TIFF
_SIGNED = 2
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1")  # what follows a length and "ftyp"
_STARTS = {_PNG: "PNG", _TIFF[0]: "TIFF", _TIFF[1]: "TIFF", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF"}


def eight_bits(image: Image.Image, source: Image.Image, data: bytes) -> Image.Image:
    """Return a decoded photo of any kind with eight bits a channel; `source` is as it was opened from `data`."""
    tags = getattr(source, "tag_v2", {}) if source.format == "TIFF" else {}
    if image.mode == "L" and _first(tags, _SIGN) == _SIGNED:
        return image.point([value ^ 128 for value in range(256)])
    if image.mode == "LAB":
        lab, srgb = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    if image.mode[0] not in "IF":
        return image
    values = np.asarray(image)
    if source.format == "TIFF":
        if _first(tags, _BITS) == 32 and _first(tags, _SIGN, 1) == 1:
            values = values.view(np.uint32)
        low, high = _tiff_range(tags, values)
        if _first(tags, _PHOTOMETRIC) == 0:  # white is zero
            low, high = high, low
    elif image.mode == "F":
        low, high = _float_range(values)
    else:
        low, high = 0.0, _png_highest(data, values)
    levels = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def _first(tags: Any, tag: int, default: Any = None) -> Any:
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value


def _tiff_range(tags: Any, values: NDArray[Any]) -> tuple[float, float]:
    """Return the values of black and white, or of white and black."""
    low, high = (float("nan") if _first(tags, tag) is None else float(_first(tags, tag)) for tag in (_LOW, _HIGH))
    if -np.inf < low < high < np.inf:
        return low, high
    if values.dtype.kind == "f":
        return _float_range(values)
    bits, signed = _first(tags, _BITS, 1), _first(tags, _SIGN) == _SIGNED
    if bits <= 16 and signed:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    full = 2 ** min(bits, 16) - 1
    most = _first(tags, _MOST)  # often the brightest pixel of this very photo, unless all bits of it are set
    stated = next((known for known in (high, most) if known in {2**k - 1 for k in range(8, 16)}), full)
    if values.min() < 0 or values.max() > full:
        raise DataError("whole numbers of more than 16 bits, whose range (SMinSampleValue, SMaxSampleValue) is missing")
    return 0, stated


def _float_range(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also where one is no number
        raise DataError(
            f"floating-point pixels from {low:.4g} to {high:.4g}: without a stated range (SMinSampleValue, "
            "SMaxSampleValue) they have to be from 0 to 1"
        )
    return 0, 1


def _png_highest(data: bytes, values: NDArray[Any]) -> float:
    """Return the value of white: by the standard the highest of 16 bits, but some only state how many bits they use."""
    full = 65535
    bits = next((body[0] for kind, body, _, whole in _chunks(data) if kind == b"sBIT" and body and whole), 16)
    highest = 2**bits - 1
    if not 8 <= bits < 16 or values.max() > highest:
        return full
    nearest = np.rint(np.rint(values * (highest / full)) * (full / highest))  # if scaled, as the standard has it
    return full if (abs(values - nearest) <= 1).all() else highest


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Yield kind and body of each chunk of a PNG file, the chunk, and whether it fits its checksum."""
    at = len(_PNG)
    while data.startswith(_PNG) and at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunk = data[at : at + 12 + length]
        kind, body = chunk[4:8], chunk[8:-4]
        yield kind, body, chunk, zlib.crc32(kind + body) == int.from_bytes(chunk[-4:], "big")
        at += len(chunk)


def png_essence(data: bytes) -> bytes | None:
    """Return a PNG file with what its pixels need and how it is held alone; None if that is all it had, or no PNG."""
    held = (b"eXIf", b"sBIT", b"tRNS")  # the critical chunks begin with a capital
    kept = [
        chunk
        for kind, body, chunk, whole in _chunks(data)
        if kind[:1].isupper() or (whole and (kind in held or body.startswith(b"XML:com.adobe.xmp\0\0")))
    ]
    essence = _PNG + b"".join(kept)
    return essence if kept and len(essence) < len(data) else None


def tiff_black_is_zero(data: bytes) -> bytes | None:
    """Return a TIFF file in which white is zero, as one in which black is; None if it is none."""
    order = "<" if data[:1] == b"I" else ">"
    with contextlib.suppress(struct.error):  # it is cut
        (start,) = struct.unpack_from(f"{order}I", data, 4) if data[:4] in _TIFF else (len(data),)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}HHIH", data, entry) == (_PHOTOMETRIC, 3, 1, 0):
                return data[: entry + 8] + struct.pack(f"{order}H", 1) + data[entry + 10 :]
    return None


def unidentified(data: bytes) -> str:
    """Return why a file that Pillow cannot identify cannot be read; "" if it is not known."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        return (
            "a HEIC file that is damaged" if HEIF else 'a HEIC file, which `pip install "cnnhw[heic]"` makes readable'
        )
    if data[4:8] == b"ftyp":
        return "in a format that cannot be read (AVIF or a film): convert it to JPEG"
    found = next((name for start, name in _STARTS.items() if data.startswith(start)), "")
    if found == "TIFF":
        try:
            tags = ImageFileDirectory_v2(data[:8])
            file = BytesIO(data)
            file.seek(tags.next)
            tags.load(file)
            said = ", ".join(
                f"{name} {' '.join(map(str, value if isinstance(value, tuple) else (value,)))}"
                for name, tag in (("BitsPerSample", _BITS), ("PhotometricInterpretation", _PHOTOMETRIC),
                                  ("SampleFormat", _SIGN))
                if (value := tags.get(tag)) is not None
            )  # fmt: skip
            return f"a TIFF file of a kind that cannot be read ({said}), or damaged"
        except Exception:  # as in `decode`
            return "damaged: its list of tags"
    return f"a {found} file that is damaged" if found else ""
