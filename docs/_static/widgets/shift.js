/* Shift and pool: a picture moves by a pixel, and what comes out of each pooling moves or changes. */
"use strict";

/** @type {any} */ (window).cnnhwWidgets ??= {};

/** @type {any} */ (window).cnnhwWidgets.shift = (place, { engine, make, slider, choice }) => {
  const SIDE = 12;
  const PICTURES = {
    bar: (row, column) => (column === 5 ? 1 : 0),
    blob: (row, column) => Math.exp(-((row - 5.5) ** 2 + (column - 5.5) ** 2) / 6),
    spot: (row, column) => (row === 5 && column === 5 ? 1 : 0),
    texture: (row, column) => (column % 2 ? 0 : 1),
  };
  const window2 = { kernel: [2, 2], stride: [2, 2], padding: [0, 0], inputs: [0] };
  const POOLINGS = {
    average: { op: "average_pool", ...window2 },
    maximum: { op: "max_pool", ...window2 },
    "every second cell": { op: "max_pool", ...window2, kernel: [1, 1] },
  };
  let [name, shift] = ["blob", 0];

  const picture = (by) => Float32Array.from({ length: SIDE * SIDE }, (_, i) => {
    const column = (((i % SIDE) - by) % SIDE + SIDE) % SIDE; // what leaves on one side comes in on the other
    return PICTURES[name](Math.floor(i / SIDE), column);
  });
  const pooled = (step, by) =>
    engine.forward({ steps: [step], weights: [] }, engine.tensor([1, 1, SIDE, SIDE], picture(by)))[1].data;

  /**
   * How much of a map is not the old one moved: 0 if it only moved, by the best of all whole cells, to 1 and above if
   * nothing of it is left.
   */
  function changed(step) {
    const [before, now] = [pooled(step, 0), pooled(step, shift)];
    const side = SIDE / 2;
    const energy = before.reduce((sum, value) => sum + value * value, 0) || now.reduce((sum, v) => sum + v * v, 0) || 1;
    let least = Infinity;
    for (let by = 0; by < side; by++) {
      let sum = 0;
      now.forEach((value, i) => {
        const from = i - (i % side) + ((((i % side) - by) % side) + side) % side;
        sum += (value - before[from]) ** 2;
      });
      least = Math.min(least, sum / energy);
    }
    return Math.sqrt(least);
  }

  const draw = (data, side, label) => make("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": label },
    ...Array.from(data, (value, i) => make("rect", {
      x: i % side, y: Math.floor(i / side), width: 1.02, height: 1.02, fill: `rgb(${Array(3).fill(Math.round(255 * Math.min(1, value)))})`,
    })));
  const maps = make("div", { class: "widget-row" });
  const said = make("p", { class: "widget-said", "aria-live": "polite" });

  function show() {
    const words = Object.entries(POOLINGS).map(([kind, step]) => [kind, step, Math.round(100 * changed(step))]);
    maps.replaceChildren(
      make("div", { class: "widget-part" }, make("p", {}, "Map"), draw(picture(shift), SIDE, `a ${name}, moved by ${shift}`)),
      ...words.map(([kind, step, percent]) => make("div", { class: "widget-part" }, make("p", {}, kind),
        draw(pooled(step, shift), SIDE / 2, `pooled by ${kind}`), make("p", {}, `changed by ${percent} %`))),
    );
    said.textContent = shift === 0 ? "Not moved yet." : `Moved by ${shift}: ` +
      words.map(([kind, , percent]) => `${kind} changed by ${percent} %`).join(", ") + ". A map that only moves counts as not changed.";
  }

  place.append(
    choice("On the map", Object.keys(PICTURES), name, (one) => { name = one; show(); }),
    slider("Moved to the right by", [0, 4, 1], shift, (value) => { shift = value; show(); }, (v) => `${v} cell${v === 1 ? "" : "s"}`),
    maps, said,
  );
  show();
};
