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

  /** The mean of boxes of so many pixels: quick, and close enough to begin with. Rounded as Pillow does. */
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
        const share = Math.floor(2 ** 24 / count); // of whole numbers, so that dividing is multiplying
        for (let c = 0; c < 4; c++) out[4 * (i * wide + j) + c] = Math.floor(((sums[c] + (count >> 1)) * share) / 2 ** 24);
      }
    }
    return { width: wide, height: high, data: out };
  }

  const BITS = 22; // Pillow mixes in whole numbers, of which 2 ** 22 is one

  /**
   * For each of `many` cells along a side, the first pixel that it is mixed of, and the weights from there on.
   * @returns {[number, number[]][]}
   */
  function mixtures(side, pixels, many) {
    const step = Math.fround(side) / many;
    const reach = Math.max(step, 1); // a triangle, as wide as two cells, or two pixels where these are larger
    return Array.from({ length: many }, (_, cell) => {
      const centre = (cell + 0.5) * step;
      const first = Math.max(0, Math.trunc(centre - reach + 0.5));
      const last = Math.min(pixels, Math.trunc(centre + reach + 0.5));
      const weights = [];
      for (let x = first; x < last; x++) weights.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) * (1 / reach))));
      const sum = weights.reduce((a, b) => a + b);
      return [first, weights.map((weight) => Math.floor(0.5 + (weight / sum) * 2 ** BITS))];
    });
  }

  /** The mean of pixels that lie `apart` in the data, by weight. */
  function mix(data, from, apart, weights) {
    let sum = 2 ** (BITS - 1);
    for (let k = 0; k < weights.length; k++) sum += weights[k] * data[from + k * apart];
    return sum >> BITS;
  }

  function mixRows({ width, height, data }, cells) {
    const out = new Uint8ClampedArray(4 * cells.length * height);
    for (let y = 0, to = 0; y < height; y++) {
      for (const [first, weights] of cells) {
        for (let c = 0; c < 4; c++, to++) out[to] = mix(data, 4 * (y * width + first) + c, 4, weights);
      }
    }
    return { width: cells.length, height, data: out };
  }

  function mixColumns({ width, data }, cells) {
    const out = new Uint8ClampedArray(4 * width * cells.length);
    let to = 0;
    for (const [first, weights] of cells) {
      for (let at = 0; at < 4 * width; at++, to++) out[to] = mix(data, 4 * width * first + at, 4 * width, weights);
    }
    return { width, height: cells.length, data: out };
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
    // numbers are rounded in between, so the order matters; that of high photos is Pillow's since its version 13
    const high = small.height - size > 2 * Math.max(0, small.width - size);
    return (high ? mixRows(mixColumns(small, rows), columns) : mixColumns(mixRows(small, columns), rows)).data;
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
