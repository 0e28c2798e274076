/* The gradient at each block of an untrained network, with and without shortcuts, by a backward pass in the browser. */
"use strict";

/** @type {any} */ (window).cnnhwWidgets ??= {};

/** @type {any} */ (window).cnnhwWidgets.gradient = (place, { engine, make, slider, choice }) => {
  const [CHANNELS, SIDE, PHOTOS] = [6, 6, 2];
  const state = { depth: 24, gain: 0.7, norm: "none", seed: 1 };

  /** Numbers from a normal distribution, the same for the same seed (mulberry32; Box and Muller). */
  function normal(seed) {
    let at = seed;
    const uniform = () => {
      at = (at + 0x6d2b79f5) | 0;
      let t = Math.imul(at ^ (at >>> 15), 1 | at);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  /** Blocks of a convolution and a ReLU, each perhaps with its input added to it; `ends` are the values they give. */
  function network(shortcuts) {
    const draw = normal(state.seed);
    const [steps, weights, ends] = [[], [], []];
    const spread = state.gain * Math.sqrt(2 / (CHANNELS * 9));
    for (let block = 0; block < state.depth; block++) {
      const before = steps.length;
      const kernel = engine.tensor([CHANNELS, CHANNELS, 3, 3]);
      kernel.data.forEach((_, i) => { kernel.data[i] = spread * draw(); });
      steps.push({ op: "convolution", inputs: [before], weights: [weights.length], stride: [1, 1], padding: [1, 1] });
      weights.push(kernel);
      if (state.norm === "batch norm") {
        const own = [1, 0, 0, 1].map((value) => engine.tensor([CHANNELS], new Float32Array(CHANNELS).fill(value)));
        steps.push({ op: "batch_norm", inputs: [steps.length], weights: [0, 1, 2, 3].map((i) => weights.length + i), eps: 1e-5, momentum: 0.1 });
        weights.push(...own);
      }
      steps.push({ op: "relu", inputs: [steps.length], weights: [] });
      if (shortcuts) steps.push({ op: "combine", kind: "add", inputs: [before, steps.length], weights: [] });
      ends.push(steps.length);
    }
    return { steps, weights, ends };
  }

  /** The length of the gradient for what each block gives, of a loss that asks for random outputs. */
  function gradients(shortcuts) {
    const program = network(shortcuts);
    const draw = normal(1000 + state.seed);
    const some = () => {
      const x = engine.tensor([PHOTOS, CHANNELS, SIDE, SIDE]);
      x.data.forEach((_, i) => { x.data[i] = draw(); });
      return x;
    };
    const slopes = [];
    engine.backward(program, engine.forward(program, some(), true), some(), slopes);
    return program.ends.map((at) => Math.sqrt(slopes[at].data.reduce((sum, value) => sum + value * value, 0)));
  }

  /** A power of ten, written as one. */
  const ten = (power) => power === 0 ? "1" : `10${power < 0 ? "⁻" : ""}${[...String(Math.abs(power))].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`;

  const KINDS = [["with shortcuts", true, "widget-line-a"], ["without", false, "widget-line-b"]];
  const [WIDE, HIGH, LOW, TOP] = [320, 160, -8, 8]; // powers of ten
  const chart = make("svg", { viewBox: `-40 -10 ${WIDE + 60} ${HIGH + 46}`, role: "img", class: "widget-chart" });
  const said = make("p", { class: "widget-said", "aria-live": "polite" });

  function show() {
    const at = (block, value) => {
      const power = Math.max(LOW, Math.min(TOP, Math.log10(value || 1e-30)));
      const across = state.depth === 1 ? 0 : (block / (state.depth - 1)) * WIDE;
      return `${across.toFixed(1)} ${(((TOP - power) / (TOP - LOW)) * HIGH).toFixed(1)}`;
    };
    const found = KINDS.map(([, shortcuts]) => gradients(shortcuts));
    chart.setAttribute("aria-label", "Length of the gradient at each block, on a scale of powers of ten");
    chart.replaceChildren(
      ...[-8, -4, 0, 4, 8].flatMap((power) => {
        const y = ((TOP - power) / (TOP - LOW)) * HIGH;
        return [make("line", { x1: 0, x2: WIDE, y1: y, y2: y, class: "widget-rule" }),
          make("text", { x: -6, y: y + 4, "text-anchor": "end" }, ten(power))];
      }),
      make("text", { x: 0, y: HIGH + 18 }, "first block"),
      make("text", { x: WIDE, y: HIGH + 18, "text-anchor": "end" }, "last block"),
      ...found.map((values, k) => make("path", { class: KINDS[k][2], d: values.map((v, i) => `${i ? "L" : "M"}${at(i, v)}`).join(" ") })),
    );
    const words = KINDS.map(([kind], k) => {
      const ratio = found[k][0] / found[k].at(-1);
      const power = Math.round(Math.log10(ratio));
      const size = Math.abs(power) > 2 ? ten(power) : ratio < 10 ? ratio.toPrecision(2) : Math.round(ratio);
      return `${kind}: ${size} times`;
    });
    said.textContent = `The gradient at the first block is, of that at the last: ${words.join("; ")}.`;
  }

  const set = (name) => (value) => { state[name] = value; show(); };
  place.append(
    slider("Blocks", [2, 40, 1], state.depth, set("depth")),
    slider("Scale of the weights", [0.3, 1.5, 0.1], state.gain, set("gain"), (v) => `${v.toFixed(1)} times He's`),
    choice("After each convolution", ["none", "batch norm"], state.norm, set("norm")),
    make("p", { class: "widget-key" }, make("span", { class: "widget-line-a" }), "with shortcuts ", make("span", { class: "widget-line-b" }), "without"),
    chart, said,
    make("button", { type: "button", onclick: () => { state.seed += 1; show(); } }, "Other random weights"),
  );
  show();
};
