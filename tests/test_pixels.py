"""Pixels are read as their files state them, and whole pixels are not lost with what lies beside them."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cnnhw import data
from cnnhw.data.decode import FORMATS, decode
from cnnhw.errors import DataError, SkippedPhotosWarning

SIDE = 16
RAMP = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)
NAMES = {"bits": 258, "photometric": 262, "most": 281, "sign": 339, "low": 340, "high": 341}


def tiff(values, order="<", **stated) -> bytes:
    """Return a TIFF file of one strip, with tags by the names above; values is an array or packed bytes."""
    data = values if isinstance(values, bytes) else values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = {256: SIDE, 257: SIDE, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: SIDE, 279: len(data), 339: 1}
    tags |= {NAMES[name]: value for name, value in stated.items()}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, float):
            entries += struct.pack(f"{order}HHIf", tag, 11, 1, value)
        elif value < 0:
            entries += struct.pack(f"{order}HHIi", tag, 9, 1, value)
        elif tag in (273, 279) or value > 65535:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, value)
        else:
            entries += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}IH", 8, len(tags)) + entries + struct.pack(f"{order}I", 0) + data


def scaled(low, high, kind):
    return (low + RAMP * (high - low)).astype(kind)


def packed(values):
    """Return 12-bit values as bytes."""
    one, two = values.reshape(-1, 2).T.astype(np.uint16)
    return np.stack([one >> 4, (one & 15) << 4 | two >> 8, two & 255], 1).astype(np.uint8).tobytes()


def png(image: Image.Image, *chunks: tuple[bytes, bytes], **settings) -> bytes:
    """Return a PNG file with more chunks before its pixels."""
    file = io.BytesIO()
    image.save(file, "PNG", **settings)
    more = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return file.getvalue()[:33] + more + file.getvalue()[33:]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("values", "stated"),
    [
        (scaled(0, 255, "u1"), {}),
        (scaled(-128, 127, "i1"), {"sign": 2}),
        (scaled(0, 65535, "u2"), {"bits": 16}),
        (scaled(0, 4095, "u2"), {"bits": 16, "most": 4095}),
        (scaled(0, 4095, "u2"), {"bits": 16, "low": 0, "high": 4095}),
        (scaled(300, 900, "u2"), {"bits": 16, "low": 300, "high": 900}),
        (scaled(0, 16383, "u2"), {"bits": 16, "high": 16383}),
        (scaled(-32768, 32767, "i2"), {"bits": 16, "sign": 2}),
        (scaled(-1024, 3071, "i2"), {"bits": 16, "sign": 2, "low": -1024, "high": 3071}),
        (scaled(0, 65535, "i4"), {"bits": 32, "sign": 2}),
        (scaled(-(10**6), 10**6, "i4"), {"bits": 32, "sign": 2, "low": -(10**6), "high": 10**6}),
        (scaled(0, 1, "f4"), {"bits": 32, "sign": 3}),
        (scaled(-2, 5, "f4"), {"bits": 32, "sign": 3, "low": -2.0, "high": 5.0}),
    ],
)
def test_tiff_says_what_black_and_white_are(values, stated, order):
    pixels = decode(tiff(values, order, **({"bits": values.dtype.itemsize * 8} | stated)), SIDE)[..., 0]
    assert np.abs(pixels - 255 * RAMP).max() <= 1
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("values", "stated"),
    [
        (scaled(0, 255, "u1"), {}),
        (scaled(0, 65535, "u2"), {"bits": 16}),
        (scaled(0, 4095, "u2"), {"bits": 16, "most": 4095}),
        (scaled(0, 1, "f4"), {"bits": 32, "sign": 3}),
        (scaled(-32768, 32767, "i2"), {"bits": 16, "sign": 2}),
    ],
)
def test_white_may_be_zero(values, stated, order):
    pixels = decode(tiff(values, order, photometric=0, **stated), SIDE)[..., 0]
    assert np.abs(pixels - 255 * (1 - RAMP)).max() <= 1


def test_twelve_bits_packed():
    assert np.abs(decode(tiff(packed(scaled(0, 4095, "u2")), bits=12), SIDE)[..., 0] - 255 * RAMP).max() <= 1


def test_the_brightest_pixel_of_a_photo_is_not_taken_for_white():
    """Some programs write it as MaxSampleValue: dark photos would become as bright as others."""
    pixels = decode(tiff(scaled(0, 20_000, "u2"), bits=16, most=20_000), SIDE)
    assert 77 <= pixels.max() <= 78


def test_bits_of_png():
    few = scaled(0, 4095, "u2")
    said = (b"sBIT", b"\x0c")
    assert np.abs(decode(png(Image.fromarray(few), said), SIDE)[..., 0] - 255 * RAMP).max() <= 1
    for full in (few << 4 | few >> 8, few << 4):  # as the standard has it: scaled to sixteen bits
        assert np.abs(decode(png(Image.fromarray(full), said), SIDE)[..., 0] - 255 * RAMP).max() <= 1
        dark = full // 20
        dark = dark >> 4 << 4 | dark >> 12
        assert decode(png(Image.fromarray(dark), said), SIDE).max() <= 13
    assert decode(png(Image.fromarray(few)), SIDE).max() == 16  # nothing is said
    eight = Image.fromarray(scaled(0, 255, "u1"))
    assert (decode(png(eight, (b"sBIT", b"\x05")), SIDE) == decode(png(eight), SIDE)).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(scaled(0, 300, "f4"), bits=32, sign=3), "floating-point pixels from 0 to 300: without a stated range"),
        (tiff(np.full((SIDE, SIDE), np.nan, "f4"), bits=32, sign=3), "floating-point pixels from nan"),
        (tiff(scaled(0, 10**6, "i4"), bits=32, sign=2), "more than 16 bits, whose range .* is missing"),
        (tiff(scaled(0, 1, "f8"), bits=64, sign=3), r"TIFF file of a kind that cannot be read \(BitsPerSample 64, "),
        (b"\0\0\0 ftypheic" + bytes(90), "a HEIC file that is damaged"),
        (b"\0\0\0 ftypqt  " + bytes(90), "a film.*convert it to JPEG"),
        (b"\xff\xd8\xff\xe0nothing more", "damaged"),
        (b"BM not really", "not a photo in a known format"),
        (b"II*\0" + bytes(3), "damaged: its list of tags"),
    ],
)
def test_reasons_are_true(data, reason):
    with pytest.raises(DataError, match=reason):
        decode(data, SIDE)


def test_lab_is_read():
    lab = np.zeros((8, 8, 3), np.uint8)
    lab[..., 0] = 255
    file = io.BytesIO()
    Image.frombytes("LAB", (8, 8), lab.tobytes()).save(file, "TIFF")
    assert decode(file.getvalue(), 8).min() > 240


@pytest.mark.filterwarnings("ignore")
def test_what_lies_beside_the_pixels_of_png_may_be_large_or_damaged():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x112] = 6  # held sideways
    expected = decode(png(image, exif=exif), SIDE)
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 2_000_000, zip=True)
    assert (decode(png(image, exif=exif, pnginfo=info), SIDE) == expected).all()
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a title of some length", zip=True)
    whole = png(image, (b"gAMA", b"\0\0\xb1\x8f"), (b"iCCP", b"x\0\0" + bytes(20)), exif=exif, pnginfo=info)
    pixels = whole.index(b"IDAT") - 4
    starts = [whole.index(kind) for kind in (b"gAMA", b"iCCP", b"zTXt")]
    for start in starts:
        for at in range(start + 4, start + 12):
            copy = bytearray(whole)
            copy[at] ^= 0x55
            assert (decode(bytes(copy), SIDE) == expected).all()
    copy = bytearray(whole)
    copy[pixels + 20] ^= 0x55
    with pytest.raises(DataError, match="damaged"):
        decode(bytes(copy), SIDE)


def test_damaged_files_give_data_errors_alone():
    """Each byte of small files of several kinds, once."""
    files = [tiff(scaled(0, 65535, "u2"), order, bits=16, photometric=0) for order in "<>"]
    files.append(png(Image.fromarray(scaled(0, 65535, "u2")), (b"sBIT", b"\x0c")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for whole in files:
            for at in range(0, len(whole), 2):
                copy = bytearray(whole)
                copy[at] ^= 0x81
                for data in (bytes(copy), whole[:at]):
                    with contextlib.suppress(DataError):
                        assert decode(data, SIDE).shape == (SIDE, SIDE, 3)


def telephone(kind: str, hue: int) -> bytes:
    """Return a portrait as telephones save it: on its side, with a note that says so."""
    across, down = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 32))
    image = Image.fromarray(np.stack([across, down, np.full_like(down, hue)], 2).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = 6  # to be turned to the right
    file = io.BytesIO()
    image.save(file, kind, quality=95, exif=exif.tobytes())
    return file.getvalue()


def test_heic_photos_are_read_upright():
    heic, jpeg = (decode(telephone(kind, 90), SIDE).astype(int) for kind in ("HEIF", "JPEG"))
    assert abs(heic - jpeg).mean() < 3
    assert heic[0, 0, 1] > heic[0, -1, 1] + 100  # green rose downwards, before the photo was turned


def test_heic_photos_are_left_out_without_the_extra_and_read_after_it_is_installed(tmp_path, monkeypatch):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for row in range(8):
            (tmp_path / name / f"{row}.jpg").write_bytes(telephone("JPEG", 10 * row + (name == "dogs")))
    (tmp_path / "cats" / "IMG_9.HEIC").write_bytes(telephone("HEIF", 200))
    with monkeypatch.context() as without:
        without.setattr("cnnhw.data.pixels.HEIF", ())
        without.setattr("cnnhw.data.decode.FORMATS", tuple(kind for kind in FORMATS if kind != "HEIF"))
        without.setattr("cnnhw.data.decode.VERSION", "2")
        with pytest.warns(SkippedPhotosWarning) as told:
            data.load(tmp_path, size=SIDE, progress=False)
    (line,) = [str(one.message) for one in told if one.category is SkippedPhotosWarning]
    assert line.endswith('1 left out: cats/IMG_9.HEIC (a HEIC file, which `pip install "cnnhw[heic]"` makes readable)')
    photos = data.load(tmp_path, size=SIDE, progress=False)
    assert not photos.skipped
    assert "cats/IMG_9.HEIC" in [name for split in photos.splits for name in split.names]
