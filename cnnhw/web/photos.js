/* From a photo's file to what a network sees: as the package does it, so that both see the same.

   A function of its own, as the engine is, so that a page can hand it to a worker. */
"use strict";

/** @typedef {{width: number, height: number, data: Uint8ClampedArray | Uint8Array}} Pixels four bytes a pixel */

function photoTools() {
  const AREA = 2 ** 24; // pixels: a canvas that is larger stays empty on some phones

  /**
   * Read a file, upright and on white where it is transparent; colours as they are in the file. A very large photo is
   * read at a half, a third, ... of its sides, as the package reads large JPEGs.
   * @param {Blob} file
   * @returns {Promise<Pixels>}
   */
  async function read(file) {
    const picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
    const times = Math.ceil(Math.sqrt((picture.width * picture.height) / AREA));
    const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.floor(side / times)));
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(picture, 0, 0, width, height);
    picture.close();
    return context.getImageData(0, 0, width, height);
  }

  /** The largest square in the middle. */
  function crop({ width, height, data }) {
    const edge = Math.min(width, height);
    const [left, top] = [(width - edge) >> 1, (height - edge) >> 1];
    const out = new Uint8Array(4 * edge * edge);
    for (let row = 0; row < edge; row++) {
      const from = 4 * ((top + row) * width + left);
      out.set(data.subarray(from, from + 4 * edge), 4 * row * edge);
    }
    return { width: edge, height: edge, data: out };
  }

  /** The mean of boxes of so many pixels: quick, and close enough to begin with. */
  function shrink({ width, height, data }, across, down) {
    const [wide, high] = [Math.ceil(width / across), Math.ceil(height / down)];
    const out = new Uint8Array(4 * wide * high);
    for (let i = 0; i < high; i++) {
      const bottom = Math.min(height, (i + 1) * down);
      for (let j = 0; j < wide; j++) {
        const right = Math.min(width, (j + 1) * across);
        const sums = [0, 0, 0, 0];
        for (let y = i * down; y < bottom; y++) {
          for (let x = j * across; x < right; x++) for (let c = 0; c < 4; c++) sums[c] += data[4 * (y * width + x) + c];
        }
        const count = (bottom - i * down) * (right - j * across);
        for (let c = 0; c < 4; c++) out[4 * (i * wide + j) + c] = Math.floor(sums[c] / count + 0.5);
      }
    }
    return { width: wide, height: high, data: out };
  }

  /** For each of `many` cells along a side, the first pixel that it is mixed of, and the weights from there on. */
  function mixtures(side, pixels, many) {
    const step = side / many;
    const reach = Math.max(step, 1); // a triangle, as wide as two cells, or two pixels where these are larger
    return Array.from({ length: many }, (_, cell) => {
      const centre = (cell + 0.5) * step;
      const first = Math.max(0, Math.trunc(centre - reach + 0.5));
      const last = Math.min(pixels, Math.trunc(centre + reach + 0.5));
      const weights = [];
      for (let x = first; x < last; x++) weights.push(Math.max(0, 1 - Math.abs(x - centre + 0.5) / reach));
      const sum = weights.reduce((a, b) => a + b);
      return [first, weights.map((weight) => weight / sum)];
    });
  }

  /**
   * Squash a photo to a square: Pillow's bilinear filter with a reducing gap of 2.
   * @param {Pixels} pixels
   * @param {number} size
   * @returns {Uint8ClampedArray} four bytes a pixel
   */
  function resize(pixels, size) {
    const [across, down] = [pixels.width, pixels.height].map((side) => Math.max(1, Math.trunc(side / size / 2)));
    const small = across > 1 || down > 1 ? shrink(pixels, across, down) : pixels;
    const columns = mixtures(pixels.width / across, small.width, size);
    const rows = mixtures(pixels.height / down, small.height, size);
    const middle = new Uint8ClampedArray(4 * size * small.height); // rounded to whole numbers, as Pillow does
    for (let y = 0; y < small.height; y++) {
      columns.forEach(([first, weights], x) => {
        for (let c = 0; c < 4; c++) {
          let sum = 0;
          for (let k = 0; k < weights.length; k++) sum += weights[k] * small.data[4 * (y * small.width + first + k) + c];
          middle[4 * (y * size + x) + c] = sum + 1e-9; // halves are rounded up
        }
      });
    }
    const out = new Uint8ClampedArray(4 * size * size);
    rows.forEach(([first, weights], y) => {
      for (let at = 0; at < 4 * size; at++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * middle[4 * (first + k) * size + at];
        out[4 * y * size + at] = sum + 1e-9;
      }
    });
    return out;
  }

  /** Numbers in 0..1, channel by channel: the engine's tensor of shape (1, 3, S, S). */
  function tensorOf(square, size) {
    const data = new Float32Array(3 * size * size);
    for (let i = 0; i < size * size; i++) {
      for (let c = 0; c < 3; c++) data[c * size * size + i] = square[4 * i + c] / 255;
    }
    return { shape: [1, 3, size, size], data };
  }

  return { read, crop, resize, tensorOf };
}
