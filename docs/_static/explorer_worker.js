/* What the explorer computes: photos, networks, maps, and the sum behind one cell. One function, so that the page can
   hand its text to a worker, and never stalls. */
"use strict";

/**
 * Where maps lie: number of a step's value, their first channel in it, their side, and the pixels that cell i along a
 * side sees, from `start + jump * i` onwards; what the network does from the layer to here, pooling by name.
 * @typedef {{value: number, first: number, side: number, start: number, field: number, jump: number,
 *   between: string[], pool: string}} Place
 * @typedef {{name: string, words: string, step: number, channels: number, inputs: number, kernel: number[],
 *   colours: boolean, learnt: boolean, before: Place, after: Place | null}} Layer
 * @typedef {{x: number, y: number, side: number, size: number}} Square in pixels of a photo of so many a side
 * @typedef {{row: number, column: number, patch: Float32Array, inside: boolean[], kernel: Float32Array,
 *   sums: number[], bias: number, sum: number}} Cell what each input adds to a cell, and the cell
 */

/**
 * @param {ReturnType<typeof cnn>} engine
 * @param {ReturnType<typeof photoTools>} tools
 */
function explorerWorker(engine, tools) {
  const GREY = 0.45; // as in cnnhw.features.occlusion
  const WITHIN = 0.995; // of all cells lie within the colours, so that a few extremes do not make all others pale
  /** @type {Record<string, Program>} */
  const programs = {};
  /** @type {Record<string, Tensor[]>} what the steps of each network gave last */
  const values = {};

  /** @param {string} key @param {object} described what the package's `Program.described` gives */
  function load(key, described) {
    programs[key] = engine.unpack(described);
  }

  /** @param {Blob} file @param {number} size @returns {Promise<Uint8ClampedArray>} what a network sees of a photo */
  async function photo(file, size) {
    return tools.resize(tools.crop(await tools.read(file)), size);
  }

  /**
   * @param {string} key
   * @param {Uint8ClampedArray} pixels
   * @param {number} size
   * @param {Square | null} square that covers a part of the photo
   * @returns {number[]} a probability for each class
   */
  function run(key, pixels, size, square) {
    const x = tools.tensorOf(pixels, size);
    for (let i = 0; square && i < 3 * square.side; i++) {
      const from = (Math.floor(i / square.side) * size + square.y + (i % square.side)) * size + square.x;
      x.data.fill(GREY, from, from + square.side);
    }
    values[key] = engine.forward(programs[key], x);
    const logits = /** @type {any} */ (values[key].at(-1));
    return engine.probabilities(logits)[0];
  }

  /** @param {string} key @param {Layer} layer @param {Place} place @returns {Float32Array} channels, row by row */
  function maps(key, { channels }, { value, first, side }) {
    return values[key][value].data.slice(first * side * side, (first + channels) * side * side);
  }

  /** @param {string} key @param {Layer} layer @param {Place} place @returns {number} where the colours of maps end */
  function limit(key, layer, place) {
    const sizes = maps(key, layer, place).map(Math.abs).sort();
    return sizes[Math.ceil(WITHIN * sizes.length) - 1];
  }

  /**
   * Where the layer's cell is that a cell behind a pooling stands for: the largest of its window, or the first.
   * @returns {number[]}
   */
  function origin(key, layer, place, channel, row, column) {
    if (!place.pool) return [row, column];
    const { side, value } = layer.before;
    const [wide, data] = [Math.round(side / place.side), values[key][value].data];
    let best = [wide * row, wide * column];
    const at = (/** @type {number[]} */ place) => data[(channel * side + place[0]) * side + place[1]];
    for (let i = 0; place.pool === "max_pool" && i < wide * wide; i++) {
      const other = [wide * row + Math.floor(i / wide), wide * column + (i % wide)];
      if (at(other) > at(best)) best = other;
    }
    return best;
  }

  /**
   * Patch times filter, input by input, plus bias: what makes a cell of a layer.
   * @param {string} key @param {Layer} layer @param {Place} place where row and column are counted
   * @param {number} channel @param {number} row @param {number} column
   * @returns {Cell}
   */
  function cell(key, layer, place, channel, row, column) {
    const [i, j] = origin(key, layer, place, channel, row, column);
    const { steps, weights } = programs[key];
    const step = steps[layer.step];
    const [x, [w, b]] = [values[key][step.inputs[0]], step.weights.map((number) => weights[number])];
    const [many, depth, high, wide] = w.shape;
    const [, , height, width] = x.shape;
    const long = high * wide;
    const before = Math.floor(channel / (many / (step.groups ?? 1))) * depth; // channels of earlier groups
    const kernel = w.data.slice(channel * depth * long, (channel + 1) * depth * long);
    const patch = new Float32Array(depth * long);
    const inside = Array.from({ length: long }, () => false);
    const sums = Array.from({ length: depth }, () => 0);
    for (let at = 0; at < patch.length; at++) {
      const [d, k] = [Math.floor(at / long), at % long];
      const top = i * step.stride[0] - step.padding[0] + Math.floor(k / wide);
      const left = j * step.stride[1] - step.padding[1] + (k % wide);
      inside[k] = top >= 0 && left >= 0 && top < height && left < width;
      if (inside[k]) patch[at] = x.data[((before + d) * height + top) * width + left];
      sums[d] += patch[at] * kernel[at];
    }
    const bias = b ? b.data[channel] : 0;
    return { row: i, column: j, patch, inside, kernel, sums, bias, sum: sums.reduce((a, c) => a + c, bias) };
  }

  return { load, photo, run, maps, limit, cell };
}
