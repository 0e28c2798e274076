/* The arithmetic of one cell, term by term: what the filter sees, times its weights, input by input, plus the bias. */
"use strict";

/**
 * @param {HTMLElement} figure
 * @param {ReturnType<typeof explorerDraw>} draw
 */
function explorerSum(figure, draw) {
  const LISTED = 4; // inputs that are named; the others are summed up
  const find = (name) => figure.querySelector(name);
  const [picker, list, table] = [find("#explorer-input"), find(".explorer-parts"), find(".explorer-terms")];
  const pictures = { patch: find(".explorer-patch"), kernel: find(".explorer-filter") };
  /** @type {{cell: Cell, layer: Layer, end: string} | null} */
  let shown = null;
  /** @type {number | null} the input that the reader has chosen, if any */
  let chosen = null;

  const nameOf = (layer, input) => (layer.colours ? ["Red", "Green", "Blue"][input] : `Input ${input}`);
  const strongest = ({ sums }) => sums.map((_, i) => i).sort((a, b) => Math.abs(sums[b]) - Math.abs(sums[a]));
  const largest = (data) => data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  /** A line of the sum: its name, a bar, a number. */
  function part(name, value, most, className = "") {
    const line = document.createElement("li");
    line.className = className;
    const [label, bar, number] = ["span", "span", "span"].map((kind) => document.createElement(kind));
    label.textContent = name;
    number.textContent = draw.exact(value);
    bar.className = value < 0 ? "explorer-bar explorer-below" : "explorer-bar";
    bar.style.setProperty("--long", `${(50 * Math.abs(value)) / (most || 1)}%`);
    line.append(label, bar, number);
    return line;
  }

  function drawList({ cell, layer, end }) {
    const order = strongest(cell);
    const named = layer.inputs <= LISTED ? order.sort((a, b) => a - b) : order.slice(0, LISTED);
    const others = order.filter((input) => !named.includes(input));
    const rest = others.reduce((sum, input) => sum + cell.sums[input], 0);
    const most = Math.max(largest(cell.sums), Math.abs(rest), Math.abs(cell.bias), Math.abs(cell.sum));
    list.replaceChildren(
      ...named.map((input) => part(nameOf(layer, input), cell.sums[input], most)),
      ...(others.length ? [part(`${others.length} other inputs`, rest, most)] : []),
      part("Bias", cell.bias, most),
      part("Sum: the cell", cell.sum, most, "explorer-total"),
    );
    find(".explorer-end").textContent = end;
  }

  /** Patch and filter as pictures: of the photo in its colours, else of one input in the colours of the maps. */
  function drawPictures({ cell, layer }, input) {
    const [high, wide] = layer.kernel;
    const [long, colours] = [high * wide, draw.palette(figure)];
    for (const [name, canvas] of Object.entries(pictures)) {
      const data = cell[name];
      const [own, most] = [data.subarray(input * long, (input + 1) * long), largest(data)];
      const low = data.some((value) => value < 0) ? -most : 0; // photos that are not shifted begin at black
      const shade = (value) => Math.round((255 * (value - low)) / (most - low || 1));
      draw.paint(canvas, wide, high, (k) => {
        if (!layer.colours) return draw.colour(colours, own[k], largest(own));
        const [r, g, b] = [0, 1, 2].map((c) => shade(data[c * long + k]));
        return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
      });
    }
  }

  function drawTerms({ cell, layer }, input) {
    const [high, wide] = layer.kernel;
    const places = wide > 3 ? 3 : 4;
    const at = (k) => input * high * wide + k;
    const products = Array.from({ length: high * wide }, (_, k) => cell.patch[at(k)] * cell.kernel[at(k)]);
    const [colours, most] = [draw.palette(figure), largest(products)];
    find(".explorer-terms caption").textContent =
      `${nameOf(layer, input)}: value × weight = product, at each of ${high} × ${wide} places. ` +
      `Together ${draw.exact(cell.sums[input])}.`;
    const body = table.tBodies[0];
    body.replaceChildren();
    for (let row = 0; row < high; row++) {
      const line = body.insertRow();
      for (let column = 0; column < wide; column++) {
        const k = row * wide + column;
        const shade = draw.colour(colours, products[k], most);
        const place = line.insertCell();
        Object.assign(place.style, { background: draw.css(shade), color: draw.ink(shade) });
        const value = cell.inside[k] ? draw.short(cell.patch[at(k)], places) : "edge";
        const [weight, product] = [cell.kernel[at(k)], products[k]].map((one) => draw.short(one, places));
        for (const text of [value, `×${weight}`, `=${product}`]) {
          place.append(Object.assign(document.createElement("span"), { textContent: text }), " ");
        }
      }
    }
  }

  function redraw() {
    if (!shown) return;
    const { cell, layer } = shown;
    const input = chosen !== null && chosen < layer.inputs ? chosen : strongest(cell)[0];
    if (picker.options.length !== layer.inputs || picker.dataset.layer !== String(layer.colours)) {
      picker.dataset.layer = String(layer.colours);
      picker.replaceChildren(...cell.sums.map((_, i) => new Option(nameOf(layer, i), String(i))));
    }
    picker.value = String(input);
    drawList(shown);
    drawPictures(shown, input);
    drawTerms(shown, input);
  }

  picker.addEventListener("change", () => {
    chosen = Number(picker.value);
    redraw();
  });

  return {
    redraw,
    /** Show a cell of a layer; `end` says what becomes of it. */
    show(cell, layer, end) {
      if (shown?.layer !== layer) chosen = null; // the strongest of each layer, until one is chosen
      shown = { cell, layer, end };
      redraw();
    },
  };
}
