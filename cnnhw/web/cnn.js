/* A small engine for convolutional networks: what a network computes, forwards and backwards, and nothing else.

   A network is a list of steps in order. Each takes values that earlier steps gave (value 0 is the photos) and weights
   by their number. All values are tensors of shape (N, C, H, W) or (N, C), their numbers in one row, channel by channel.

   The whole engine is one function, so that a page can hand its text to a worker. */
"use strict";

/**
 * @typedef {{shape: number[], data: Float32Array, from?: Int32Array, moments?: Float64Array[]}} Tensor
 * @typedef {{op: string, name?: string, inputs: number[], weights?: number[], [setting: string]: any}} Step
 * @typedef {{steps: Step[], weights: Tensor[]}} Program
 */

function cnn() {
  const size = (shape) => shape.reduce((product, side) => product * side, 1);

  /** @returns {Tensor} */
  const tensor = (shape, data = new Float32Array(size(shape))) => ({ shape: [...shape], data });

  // ---- matrices -------------------------------------------------------------------------------------------------

  const [HIGH, WIDE] = [4, 2];
  let packed = new Float64Array(0);
  let strip = new Float64Array(0);
  const sums = new Float64Array(HIGH * WIDE);

  /**
   * c (m x n) += a (m x k) times b (k x n). Cell (i, d) of a is at i * a.row + d * a.column, so that a transposed
   * matrix needs no copy. Strips of four rows and of two columns are packed, so that a tile reads them in order.
   */
  function multiply(c, a, b, m, n, k) {
    const long = Math.ceil(m / HIGH) * HIGH * k;
    if (packed.length < long) packed = new Float64Array(long);
    if (strip.length < WIDE * k) strip = new Float64Array(WIDE * k);
    for (let first = 0, at = 0; first < m; first += HIGH) {
      for (let d = 0; d < k; d++) {
        for (let i = first; i < first + HIGH; i++, at++) packed[at] = i < m ? a.data[i * a.row + d * a.column] : 0;
      }
    }
    for (let j = 0; j < n; j += WIDE) {
      const wide = Math.min(WIDE, n - j);
      for (let d = 0, at = 0; d < k; d++) {
        for (let t = 0; t < WIDE; t++, at++) strip[at] = t < wide ? b.data[d * b.row + (j + t) * b.column] : 0;
      }
      for (let i = 0; i < m; i += HIGH) {
        tile(i * k, k);
        const high = Math.min(HIGH, m - i);
        for (let t = 0; t < high; t++) for (let u = 0; u < wide; u++) c[(i + t) * n + j + u] += sums[WIDE * t + u];
      }
    }
  }

  /** The products of four packed rows and two packed columns; eight sums stay in registers. */
  function tile(from, k) {
    const [a, b] = [packed, strip];
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    for (let p = 0, q = from; p < WIDE * k; p += WIDE, q += HIGH) {
      const left = b[p], right = b[p + 1];
      s0 += a[q] * left;
      s1 += a[q] * right;
      s2 += a[q + 1] * left;
      s3 += a[q + 1] * right;
      s4 += a[q + 2] * left;
      s5 += a[q + 2] * right;
      s6 += a[q + 3] * left;
      s7 += a[q + 3] * right;
    }
    const out = sums; // written one by one: an array made here would cost more than the products
    out[0] = s0; out[1] = s1; out[2] = s2; out[3] = s3;
    out[4] = s4; out[5] = s5; out[6] = s6; out[7] = s7;
  }

  const rows = (data, columns) => ({ data, row: columns, column: 1 });
  const turned = (data, columns) => ({ data, row: 1, column: columns });

  // ---- convolution ----------------------------------------------------------------------------------------------

  const after = (side, kernel, stride, padding) => Math.floor((side + 2 * padding - kernel) / stride) + 1;

  /** Positions j in 0..many whose input, j * stride + shift, lies within a side. */
  const within = (side, shift, stride, many) => [
    Math.max(0, Math.ceil(-shift / stride)),
    Math.min(many, Math.floor((side - 1 - shift) / stride) + 1),
  ];

  /** The patches below every position of the kernel, as columns; or, with `back`, what lies in them added to x. */
  function patches(x, from, inner, g, columns, back = false) {
    const [channels, height, width] = inner;
    const { kernel: [kh, kw], stride: [sh, sw], padding: [ph, pw], out: [oh, ow] } = g;
    if (!back) columns.fill(0);
    for (let c = 0, at = 0; c < channels; c++) {
      for (let u = 0; u < kh; u++) {
        const [top, bottom] = within(height, u - ph, sh, oh);
        for (let v = 0; v < kw; v++, at += oh * ow) {
          const [left, right] = within(width, v - pw, sw, ow);
          for (let i = top; i < bottom; i++) {
            const start = from + (c * height + i * sh + u - ph) * width + v - pw;
            const to = at + i * ow;
            if (back) for (let j = left; j < right; j++) x[start + j * sw] += columns[to + j];
            else for (let j = left; j < right; j++) columns[to + j] = x[start + j * sw];
          }
        }
      }
    }
  }

  /** What a convolution needs to know of its shapes. */
  function geometry(step, x, w) {
    const [, , height, width] = x.shape;
    const [many, depth, kh, kw] = w.shape;
    const { stride, padding, groups = 1 } = step;
    const out = [after(height, kh, stride[0], padding[0]), after(width, kw, stride[1], padding[1])];
    const plain = kh * kw === 1 && stride[0] * stride[1] === 1 && padding[0] + padding[1] === 0;
    return { kernel: [kh, kw], stride, padding, out, groups, many: many / groups, depth, cells: out[0] * out[1], plain };
  }

  /** Calls act(where x begins, where the output begins, number of the group) for each photo and group. */
  function eachGroup(x, g, act) {
    const [count, channels, height, width] = x.shape;
    for (let n = 0; n < count; n++) {
      for (let group = 0; group < g.groups; group++) {
        const from = (n * channels + group * g.depth) * height * width;
        act(from, (n * g.groups + group) * g.many * g.cells, group);
      }
    }
  }

  function convolve(step, [x], [w, bias]) {
    const g = geometry(step, x, w);
    const y = tensor([x.shape[0], g.groups * g.many, ...g.out]);
    if (bias) eachMap(y, (channel, start, end) => y.data.fill(bias.data[channel], start, end));
    const long = g.depth * g.kernel[0] * g.kernel[1];
    const columns = g.plain ? null : new Float32Array(long * g.cells);
    const inner = [g.depth, x.shape[2], x.shape[3]];
    eachGroup(x, g, (from, to, group) => {
      const out = y.data.subarray(to, to + g.many * g.cells);
      const kernel = w.data.subarray(group * g.many * long, (group + 1) * g.many * long);
      if (g.many * g.depth === 1) return filter(x.data, from, inner, g, kernel, out);
      if (columns) patches(x.data, from, inner, g, columns);
      const seen = columns || x.data.subarray(from, from + long * g.cells);
      multiply(out, rows(kernel, long), rows(seen, g.cells), g.many, g.cells, long);
    });
    return y;
  }

  /** One channel by one kernel, as in depthwise convolutions, where patches would cost more than they spare. */
  function filter(x, from, inner, g, kernel, out) {
    const [, height, width] = inner;
    const { kernel: [kh, kw], stride: [sh, sw], padding: [ph, pw], out: [oh, ow] } = g;
    for (let u = 0; u < kh; u++) {
      const [top, bottom] = within(height, u - ph, sh, oh);
      for (let v = 0; v < kw; v++) {
        const [left, right] = within(width, v - pw, sw, ow);
        const weight = kernel[u * kw + v];
        for (let i = top; i < bottom; i++) {
          const start = from + (i * sh + u - ph) * width + v - pw;
          for (let j = left; j < right; j++) out[i * ow + j] += weight * x[start + j * sw];
        }
      }
    }
  }

  function convolveBack(step, [x], [w, bias], y, dy) {
    const g = geometry(step, x, w);
    const [dx, dw] = [tensor(x.shape), tensor(w.shape)];
    const long = g.depth * g.kernel[0] * g.kernel[1];
    const inner = [g.depth, x.shape[2], x.shape[3]];
    eachGroup(x, g, (from, to, group) => {
      const [columns, into] = [new Float32Array(long * g.cells), new Float32Array(long * g.cells)];
      const given = dy.data.subarray(to, to + g.many * g.cells);
      const part = [group * g.many * long, (group + 1) * g.many * long];
      patches(x.data, from, inner, g, columns);
      multiply(dw.data.subarray(...part), rows(given, g.cells), turned(columns, g.cells), g.many, long, g.cells);
      multiply(into, turned(w.data.subarray(...part), long), rows(given, g.cells), long, g.cells, g.many);
      patches(dx.data, from, inner, g, into, true);
    });
    return [[dx], bias ? [dw, perChannel(dy)] : [dw]];
  }

  /** Calls act(channel, first place, place after the last) for each map of each photo. */
  function eachMap(x, act) {
    const [channels, cells] = [x.shape[1], size(x.shape.slice(2))];
    for (let at = 0, c = 0; at < x.data.length; at += cells, c = (c + 1) % channels) act(c, at, at + cells);
  }

  /** The sum of each channel over photos and cells. */
  function perChannel(x) {
    const sums = tensor([x.shape[1]]);
    eachMap(x, (channel, start, end) => {
      let sum = 0;
      for (let i = start; i < end; i++) sum += x.data[i];
      sums.data[channel] += sum;
    });
    return sums;
  }

  // ---- batch norm -----------------------------------------------------------------------------------------------

  /** Mean and variance of each channel: those of these photos in training, else those kept from it. */
  function moments(step, x, [, , keptMean, keptVariance], training) {
    if (!training) return [keptMean.data, keptVariance.data];
    const channels = x.shape[1];
    const count = x.data.length / channels;
    const [mean, variance] = [new Float64Array(channels), new Float64Array(channels)];
    eachMap(x, (channel, start, end) => {
      for (let i = start; i < end; i++) mean[channel] += x.data[i] / count;
    });
    eachMap(x, (channel, start, end) => {
      for (let i = start; i < end; i++) variance[channel] += (x.data[i] - mean[channel]) ** 2 / count;
    });
    for (let c = 0; c < channels; c++) {
      keptMean.data[c] += step.momentum * (mean[c] - keptMean.data[c]);
      keptVariance.data[c] += step.momentum * ((variance[c] * count) / Math.max(1, count - 1) - keptVariance.data[c]);
    }
    return [mean, variance];
  }

  function normalise(step, [x], weights, training) {
    const [gamma, beta] = weights;
    const [mean, variance] = moments(step, x, weights, training);
    const y = tensor(x.shape);
    eachMap(x, (channel, start, end) => {
      const scale = gamma.data[channel] / Math.sqrt(variance[channel] + step.eps);
      const shift = beta.data[channel] - mean[channel] * scale;
      for (let i = start; i < end; i++) y.data[i] = x.data[i] * scale + shift;
    });
    if (training) y.moments = [mean, variance];
    return y;
  }

  function normaliseBack(step, [x], [gamma], y, dy) {
    const [mean, variance] = y.moments;
    const [dx, dgamma, dbeta] = [tensor(x.shape), tensor(gamma.shape), perChannel(dy)];
    const count = x.data.length / x.shape[1];
    const spread = variance.map((value) => Math.sqrt(value + step.eps));
    eachMap(x, (channel, start, end) => {
      let sum = 0;
      for (let i = start; i < end; i++) sum += dy.data[i] * (x.data[i] - mean[channel]);
      dgamma.data[channel] += sum / spread[channel];
    });
    eachMap(x, (channel, start, end) => {
      const scale = gamma.data[channel] / spread[channel];
      const shift = dbeta.data[channel] / count;
      const tilt = dgamma.data[channel] / count / spread[channel];
      for (let i = start; i < end; i++) dx.data[i] = scale * (dy.data[i] - shift - (x.data[i] - mean[channel]) * tilt);
    });
    return [[dx], [dgamma, dbeta]];
  }

  // ---- pooling --------------------------------------------------------------------------------------------------

  /** Calls act(cell of the output, first row and column of its window, those after its last) for each of a map. */
  function eachWindow(step, [height, width], out, act) {
    const { kernel: [kh, kw], stride: [sh, sw], padding: [ph, pw] } = step;
    for (let i = 0, to = 0; i < out[0]; i++) {
      const [top, bottom] = [Math.max(0, i * sh - ph), Math.min(height, i * sh - ph + kh)];
      for (let j = 0; j < out[1]; j++, to++) {
        act(to, top, Math.max(0, j * sw - pw), bottom, Math.min(width, j * sw - pw + kw));
      }
    }
  }

  /**
   * A tensor for what a pooling gives, and a function that calls act as eachWindow does, with the map's beginnings.
   * @returns {[Tensor, (act: (to: number, from: number, ...edges: number[]) => void) => void]}
   */
  function pooling(step, x) {
    const sides = x.shape.slice(2);
    const out = sides.map((side, axis) => after(side, step.kernel[axis], step.stride[axis], step.padding[axis]));
    const y = tensor([...x.shape.slice(0, 2), ...out]);
    const each = (act) => {
      for (let map = 0; map < x.shape[0] * x.shape[1]; map++) {
        const [from, into] = [map * size(sides), map * size(out)];
        eachWindow(step, sides, out, (to, top, left, bottom, right) => {
          act(into + to, from, top, left, bottom, right);
        });
      }
    };
    return [y, each];
  }

  function largest(step, [x]) {
    const [y, each] = pooling(step, x);
    const [width, data] = [x.shape[3], x.data];
    y.from = new Int32Array(y.data.length);
    each((to, from, top, left, bottom, right) => {
      let best = from + top * width + left;
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) {
          const cell = from + row * width + column;
          if (data[cell] > data[best]) best = cell;
        }
      }
      y.data[to] = data[best];
      y.from[to] = best;
    });
    return y;
  }

  function average(step, [x]) {
    const [y, each] = pooling(step, x);
    const [width, data] = [x.shape[3], x.data];
    const share = 1 / (step.kernel[0] * step.kernel[1]); // cells of the padding count as zeros
    each((to, from, top, left, bottom, right) => {
      let sum = 0;
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) sum += data[from + row * width + column];
      }
      y.data[to] = sum * share;
    });
    return y;
  }

  function averageBack(step, [x], _, y, dy) {
    const dx = tensor(x.shape);
    const [, each] = pooling(step, x);
    const share = 1 / (step.kernel[0] * step.kernel[1]);
    each((to, from, top, left, bottom, right) => {
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) dx.data[from + row * x.shape[3] + column] += dy.data[to] * share;
      }
    });
    return [[dx], []];
  }

  // ---- shapes ---------------------------------------------------------------------------------------------------

  /** Calls act(place in y, place in x) for each cell of y, which reads x along axes that begin and step as given. */
  function eachCell(y, x, starts, steps, act) {
    const strides = x.shape.map((_, axis) => size(x.shape.slice(axis + 1)));
    const at = y.shape.map(() => 0);
    for (let i = 0; i < y.data.length; i++) {
      let from = 0;
      for (let axis = 0; axis < at.length; axis++) {
        const place = starts[axis] + steps[axis] * at[axis];
        if (place < 0 || place >= x.shape[axis]) from = NaN; // beyond the edge
        else from += place * strides[axis];
      }
      act(i, from);
      for (let axis = at.length - 1; axis >= 0 && ++at[axis] === y.shape[axis]; axis--) at[axis] = 0;
    }
  }

  function moved(shape, x, starts, steps) {
    const y = tensor(shape);
    eachCell(y, x, starts, steps, (to, from) => { y.data[to] = Number.isNaN(from) ? 0 : x.data[from]; });
    return y;
  }

  const ones = (x) => x.shape.map(() => 1);
  const zeros = (x) => x.shape.map(() => 0);

  function concatenate({ axis }, inputs) {
    const shape = [...inputs[0].shape];
    shape[axis] = inputs.reduce((sum, x) => sum + x.shape[axis], 0);
    const y = tensor(shape);
    const runs = size(shape.slice(0, axis));
    let at = 0;
    for (let run = 0; run < runs; run++) {
      for (const x of inputs) {
        const long = x.data.length / runs;
        y.data.set(x.data.subarray(run * long, (run + 1) * long), at);
        at += long;
      }
    }
    return y;
  }

  function concatenateBack({ axis }, inputs, _, y, dy) {
    const runs = size(y.shape.slice(0, axis));
    const dxs = inputs.map((x) => tensor(x.shape));
    let at = 0;
    for (let run = 0; run < runs; run++) {
      for (const dx of dxs) {
        const long = dx.data.length / runs;
        dx.data.set(dy.data.subarray(at, at + long), run * long);
        at += long;
      }
    }
    return [dxs, []];
  }

  /** Bilinear interpolation, cells being squares whose centres are read. */
  function resample({ out }, [x]) {
    const [count, channels, height, width] = x.shape;
    const y = tensor([count, channels, ...out]);
    const place = (i, to, from) => {
      const at = Math.max(0, ((i + 0.5) * from) / to - 0.5);
      const low = Math.min(from - 1, Math.floor(at));
      return [low, Math.min(from - 1, low + 1), at - low];
    };
    for (let map = 0, to = 0; map < count * channels; map++) {
      for (let i = 0; i < out[0]; i++) {
        const [top, bottom, down] = place(i, out[0], height);
        for (let j = 0; j < out[1]; j++, to++) {
          const [left, right, across] = place(j, out[1], width);
          const cell = (row, column) => x.data[(map * height + row) * width + column];
          const mix = (row) => cell(row, left) * (1 - across) + cell(row, right) * across;
          y.data[to] = mix(top) * (1 - down) + mix(bottom) * down;
        }
      }
    }
    return y;
  }

  // ---- arithmetic -----------------------------------------------------------------------------------------------

  const ARITHMETIC = { add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b };

  /** Two values cell by cell; of sides of 1, and with a number, the same is taken everywhere. */
  function combine({ kind, scalar, reverse = false }, [first, second], [constant]) {
    const f = ARITHMETIC[kind];
    const other = second || constant;
    if (!other) return { shape: [...first.shape], data: first.data.map((v) => (reverse ? f(scalar, v) : f(v, scalar))) };
    const axes = Math.max(first.shape.length, other.shape.length);
    const [a, b] = [first, other].map((x) => ({ ...x, shape: [...Array(axes - x.shape.length).fill(1), ...x.shape] }));
    const y = tensor(a.shape.map((side, axis) => Math.max(side, b.shape[axis])));
    const steps = (x) => x.shape.map((side) => (side === 1 ? 0 : 1));
    eachCell(y, a, zeros(y), steps(a), (to, from) => { y.data[to] = a.data[from]; });
    eachCell(y, b, zeros(y), steps(b), (to, from) => {
      y.data[to] = reverse ? f(b.data[from], y.data[to]) : f(y.data[to], b.data[from]);
    });
    return y;
  }

  function linear(step, [x], [w, bias]) {
    const y = tensor([x.shape[0], w.shape[0]]);
    const [many, long] = w.shape;
    for (let to = 0; to < y.data.length; to++) {
      const [from, row] = [Math.floor(to / many) * long, (to % many) * long];
      let sum = bias ? bias.data[to % many] : 0;
      for (let i = 0; i < long; i++) sum += x.data[from + i] * w.data[row + i];
      y.data[to] = sum;
    }
    return y;
  }

  function linearBack(step, [x], [w, bias], y, dy) {
    const [dx, dw] = [tensor(x.shape), tensor(w.shape)];
    const [out, inner] = w.shape;
    multiply(dx.data, rows(dy.data, out), rows(w.data, inner), x.shape[0], inner, out);
    multiply(dw.data, turned(dy.data, out), rows(x.data, inner), out, inner, x.shape[0]);
    return [[dx], bias ? [dw, perChannel(dy)] : [dw]];
  }

  /** A step that changes each number by itself. */
  const each = (f) => (step, [x]) => {
    const y = tensor(x.shape);
    for (let i = 0; i < y.data.length; i++) y.data[i] = f(x.data[i], step);
    return y;
  };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const same = (shape, data) => [[tensor(shape, data)], []];

  /** What each step computes, and, where training needs it, how gradients run back: to its inputs and its weights. */
  const STEPS = {
    convolution: { forward: convolve, backward: convolveBack },
    batch_norm: { forward: normalise, backward: normaliseBack },
    linear: { forward: linear, backward: linearBack },
    relu: {
      forward: each((value) => Math.max(0, value)),
      backward: (step, [x], _, y, dy) => {
        const dx = tensor(x.shape);
        for (let i = 0; i < dx.data.length; i++) if (x.data[i] > 0) dx.data[i] = dy.data[i];
        return [[dx], []];
      },
    },
    clamp: { forward: each((value, { low, high }) => clamp(value, low, high)) },
    hardswish: { forward: each((value) => (value * clamp(value + 3, 0, 6)) / 6) },
    hardsigmoid: { forward: each((value) => clamp(value + 3, 0, 6) / 6) },
    max_pool: {
      forward: largest,
      backward: (step, [x], _, y, dy) => {
        const dx = tensor(x.shape);
        for (let i = 0; i < y.from.length; i++) dx.data[y.from[i]] += dy.data[i];
        return [[dx], []];
      },
    },
    average_pool: { forward: average, backward: averageBack },
    reshape: {
      forward: ({ shape }, [x]) => tensor([x.shape[0], ...shape], x.data),
      backward: (step, [x], _, y, dy) => same(x.shape, dy.data),
    },
    concatenate: { forward: concatenate, backward: concatenateBack },
    combine: {
      forward: combine,
      backward: ({ kind }, inputs, _, y, dy) => {
        if (kind !== "add" || inputs.length !== 2) throw new Error(`no gradient of ${kind} is known`);
        return [inputs.map((x) => tensor(x.shape, dy.data)), []];
      },
    },
    flip: {
      forward: ({ axes }, [x]) => {
        const turn = x.shape.map((side, axis) => axes.includes(axis) && side - 1);
        return moved(x.shape, x, turn.map(Number), turn.map((last) => (last === false ? 1 : -1)));
      },
    },
    slice: {
      forward: ({ axis, start, end }, [x]) => {
        const shape = x.shape.map((side, a) => (a === axis ? Math.min(end, side) - start : side));
        return moved(shape, x, x.shape.map((_, a) => (a === axis ? start : 0)), ones(x));
      },
    },
    pad: {
      forward: ({ before, beyond }, [x]) =>
        moved(x.shape.map((side, axis) => before[axis] + side + beyond[axis]), x, before.map((b) => -b), ones(x)),
    },
    resample: { forward: resample },
  };

  // ---- networks -------------------------------------------------------------------------------------------------

  /** Half precision, as numbers: sign, five bits of exponent, ten of fraction. */
  function single(half) {
    const [sign, exponent, fraction] = [half & 0x8000 ? -1 : 1, (half >> 10) & 31, (half & 1023) / 1024];
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
  }

  /**
   * Return a program from what the package's `Program.described` gives.
   * @returns {Program}
   */
  function unpack({ steps, weights, data }) {
    const { buffer } = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const read = ({ shape, start, half, units }) => {
      if (units !== undefined) { // whole numbers, of a unit of its own for each row
        const [many, unit] = [size(shape), new Float32Array(buffer, units, shape[0])];
        const value = (whole, i) => whole * unit[Math.floor((i * shape[0]) / many)];
        return tensor(shape, Float32Array.from(new Int16Array(buffer, start, many), value));
      }
      if (!half) return tensor(shape, new Float32Array(buffer, start, size(shape)));
      return tensor(shape, Float32Array.from(new Uint16Array(buffer, start, size(shape)), single));
    };
    return { steps, weights: weights.map(read) };
  }

  /**
   * Return the value of every step for photos of shape (N, 3, S, S): the last is the logits, of shape (N, K).
   * @param {Program} program
   * @param {Tensor} photos
   * @returns {Tensor[]}
   */
  function forward({ steps, weights }, photos, training = false) {
    const values = [photos];
    for (const step of steps) {
      const [inputs, own] = [step.inputs.map((i) => values[i]), (step.weights || []).map((i) => weights[i])];
      values.push(STEPS[step.op].forward(step, inputs, own, training));
    }
    return values;
  }

  /**
   * Return the gradient of the loss for each weight, in order; none for what is not learnt.
   * @param {Program} program
   * @param {Tensor[]} values of a forward pass in training
   * @param {Tensor} slope gradient for the logits
   * @param {Tensor[]} slopes filled with the gradient for the value of every step, for those who want to see it
   */
  function backward({ steps, weights }, values, slope, slopes = []) {
    values.forEach((_, i) => { slopes[i] = null; });
    const found = weights.map(() => null);
    const join = (list, i, more) => {
      list[i] = list[i] ? tensor(more.shape, list[i].data.map((value, k) => value + more.data[k])) : more;
    };
    slopes[steps.length] = slope;
    for (let k = steps.length; k > 0; k--) {
      const step = steps[k - 1];
      if (!slopes[k]) continue;
      const [inputs, own] = [step.inputs.map((i) => values[i]), (step.weights || []).map((i) => weights[i])];
      const [toInputs, toWeights] = STEPS[step.op].backward(step, inputs, own, values[k], slopes[k]);
      toInputs.forEach((more, i) => join(slopes, step.inputs[i], more));
      toWeights.forEach((more, i) => join(found, step.weights[i], more));
    }
    return found;
  }

  /** Softmax over the classes of each photo: an array of probabilities a photo. */
  function probabilities({ shape: [count, classes], data }) {
    return Array.from({ length: count }, (_, n) => {
      const row = data.subarray(n * classes, (n + 1) * classes);
      const top = row.reduce((a, b) => Math.max(a, b));
      const powers = Array.from(row, (value) => Math.exp(value - top));
      const sum = powers.reduce((a, b) => a + b);
      return powers.map((value) => value / sum);
    });
  }

  /** Mean cross-entropy, in nats, and its gradient for the logits. */
  function crossEntropy(logits, labels) {
    const found = probabilities(logits);
    const slope = tensor(logits.shape);
    let loss = 0;
    found.forEach((row, n) => {
      loss -= Math.log(Math.max(row[labels[n]], 1e-30)) / found.length;
      row.forEach((p, k) => { slope.data[n * row.length + k] = (p - (k === labels[n] ? 1 : 0)) / found.length; });
    });
    return { loss, slope };
  }

  /** Stochastic gradient descent with momentum; `kept` holds what it remembers from step to step. */
  function sgd(weights, slopes, kept, rate, momentum = 0.9) {
    weights.forEach((w, i) => {
      if (!slopes[i]) return;
      const speed = (kept[i] ||= new Float32Array(w.data.length));
      for (let k = 0; k < speed.length; k++) {
        speed[k] = momentum * speed[k] + slopes[i].data[k];
        w.data[k] -= rate * speed[k];
      }
    });
  }

  /** Adam (Kingma and Ba 2015, algorithm 1). */
  function adam(weights, slopes, kept, rate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8) {
    kept.steps = (kept.steps || 0) + 1;
    const [first, second] = [1 - beta1 ** kept.steps, 1 - beta2 ** kept.steps];
    weights.forEach((w, i) => {
      if (!slopes[i]) return;
      kept[i] ||= [new Float32Array(w.data.length), new Float32Array(w.data.length)];
      const [mean, square] = kept[i];
      for (let k = 0; k < mean.length; k++) {
        const value = slopes[i].data[k];
        mean[k] = beta1 * mean[k] + (1 - beta1) * value;
        square[k] = beta2 * square[k] + (1 - beta2) * value * value;
        w.data[k] -= (rate * (mean[k] / first)) / (Math.sqrt(square[k] / second) + eps);
      }
    });
  }

  return { tensor, unpack, forward, backward, probabilities, crossEntropy, sgd, adam, multiply };
}
