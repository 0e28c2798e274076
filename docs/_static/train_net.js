/* The networks of "Train it here": settings become a program of the engine, its weights drawn by a seeded generator.

   A function of its own, as the engine is, so that a page can hand it to a worker. */
"use strict";

/**
 * @typedef {Object} Settings
 * @property {number} width channels of the first stage; each further one has twice as many
 * @property {number} stages each halves the sides of the maps
 * @property {number} blocks pairs of convolutions after the pooling of each stage
 * @property {number} kernel side of all kernels, odd
 * @property {boolean} shortcuts whether what enters a pair is added to what it gives
 * @property {boolean} norm whether batch norm follows each convolution
 * @property {string} optimiser "sgd" (with momentum) or "adam"
 * @property {number} rate learning rate
 * @property {string} schedule "constant" or "cycle": up to the rate, and down to nothing
 * @property {number} batch photos a step
 * @property {number} epochs
 * @property {number} photos how many of the training photos are used
 * @property {boolean} mirror whether photos are mirrored at random
 * @property {number} shift pixels by which photos are moved at random
 * @property {number} seed
 */

function trainNet() {
  /** Numbers in 0..1 that follow from a seed (mulberry32, by Tommy Ettinger). */
  function dice(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** A number of the standard normal distribution (Box and Muller 1958). */
  const normal = (roll) => Math.sqrt(-2 * Math.log(1 - roll())) * Math.cos(2 * Math.PI * roll());

  /**
   * Return a network for photos of three channels, its kernels He-normal (He et al. 2015).
   * @param {Settings} settings
   * @param {number} classes
   * @returns {Program}
   */
  function build(settings, classes) {
    const { width, stages, blocks, kernel, shortcuts, norm, seed } = settings;
    const roll = dice(seed);
    const steps = [], weights = [];
    let last = 0, channels = 3; // the value that the next step takes, and its channels

    const keep = (shape, draw) => {
      const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, draw);
      return weights.push({ shape, data }) - 1;
    };
    const add = (step) => {
      steps.push({ inputs: [last], ...step });
      last = steps.length;
    };

    function convolution(name, out, { zero = false, pool = false } = {}) {
      const spread = zero && !norm ? 0 : Math.sqrt(2 / (channels * kernel ** 2));
      const own = [keep([out, channels, kernel, kernel], () => spread * normal(roll))];
      if (!norm) own.push(keep([out], () => 0));
      const pad = (kernel - 1) / 2;
      add({ op: "convolution", name, weights: own, stride: [1, 1], padding: [pad, pad], groups: 1 });
      channels = out;
      // before batch norm, which is cheaper on the small map
      if (pool) add({ op: "max_pool", kernel: [2, 2], stride: [2, 2], padding: [0, 0] });
      if (!norm) return;
      const numbers = [zero ? 0 : 1, 0, 0, 1].map((value) => keep([out], () => value)); // gamma, beta, mean, variance
      add({ op: "batch_norm", weights: numbers, eps: 1e-5, momentum: 0.2 });
    }

    /** Two convolutions. With shortcuts they give zeros at first: a block begins by passing on what enters it. */
    function block(name) {
      const entered = last;
      convolution(`${name} a`, channels);
      add({ op: "relu" });
      convolution(`${name} b`, channels, { zero: shortcuts });
      if (shortcuts) add({ op: "combine", kind: "add", inputs: [entered, last] });
      add({ op: "relu" });
    }

    for (let stage = 1; stage <= stages; stage++) {
      convolution(`stage ${stage}`, width * 2 ** (stage - 1), { pool: true });
      add({ op: "relu" });
      for (let k = 1; k <= blocks; k++) block(`stage ${stage}, block ${k}`);
    }
    return head();

    /** The mean of each channel, and a linear layer. */
    function head() {
      const side = 32 / 2 ** stages;
      add({ op: "average_pool", kernel: [side, side], stride: [side, side], padding: [0, 0] });
      add({ op: "reshape", shape: [channels] });
      const spread = 0.1 / Math.sqrt(channels); // small, so that the first loss is that of a guess
      const own = [keep([classes, channels], () => spread * normal(roll)), keep([classes], () => 0)];
      add({ op: "linear", name: "classes", weights: own });
      return { steps, weights };
    }
  }

  /** How many convolutions a network has. */
  const convolutions = ({ stages, blocks }) => stages * (1 + 2 * blocks);

  return { build, convolutions, dice };
}
