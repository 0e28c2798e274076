/* How "Train it here" draws: elements, curves, and tiles of pixels. It knows nothing of training. */
"use strict";

const trainDraw = (() => {
  /**
   * @param {string} name of the element
   * @param {Object} [properties]
   * @param {(Node | string)[]} children
   * @returns {any} the element
   */
  function make(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made) made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  /** An element of SVG. */
  function draw(name, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  }

  const percent = (share) => `${Math.round(100 * share)} %`;
  const length = (share) => `${(100 * share).toFixed(1)}%`; // for the style

  /** Draw lines over photos seen. What lies above the top is drawn there. */
  function chart(svg, { end, top, level, lines, format = (value) => value.toFixed(1) }) {
    const [width, height] = [svg.clientWidth || 320, 190];
    const [left, right, above, below] = [44, 10, 8, 24];
    const x = (seen) => left + ((width - left - right) * seen) / end;
    const y = (value) => above + (height - above - below) * (1 - Math.min(value, top) / top);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [0, 0.5, 1].flatMap((share) => [
      draw("line", { x1: left, x2: width - right, y1: y(share * top), y2: y(share * top), class: "grid" }),
      draw("text", { x: left - 6, y: y(share * top) + 4, "text-anchor": "end" }, format(share * top)),
    ]);
    if (level) {
      parts.push(draw("line", { x1: left, x2: width - right, y1: y(level), y2: y(level), class: "level" }));
    }
    const last = `${Math.round(end).toLocaleString("en")} photos seen`;
    parts.push(draw("text", { x: left, y: height - 6 }, "0"));
    parts.push(draw("text", { x: width - right, y: height - 6, "text-anchor": "end" }, last));
    for (const [name, points] of lines) {
      const d = points.map(([seen, value], i) => `${i ? "L" : "M"}${x(seen).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      if (d) parts.push(draw("path", { d, class: `line ${name}` }));
    }
    if (level) {
      parts.push(draw("text", { x: width - right, y: y(level) - 4, "text-anchor": "end", class: "quiet" }, "a guess"));
    }
    svg.replaceChildren(...parts);
  }

  /** Draw tiles of 32 pixels a side, side by side; `pixel` gives the colour of a place. */
  function tiles(canvas, many, columns, pixel) {
    const [side, gap, rows] = [32, 3, Math.ceil(many / columns)];
    canvas.width = columns * (side + gap) - gap;
    canvas.height = rows * (side + gap) - gap;
    canvas.style.maxWidth = `${6 * columns}rem`;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let tile = 0; tile < many; tile++) {
      const [top, left] = [Math.floor(tile / columns) * (side + gap), (tile % columns) * (side + gap)];
      for (let row = 0; row < side; row++) {
        for (let column = 0; column < side; column++) {
          image.data.set([...pixel(tile, row, column), 255], 4 * ((top + row) * canvas.width + left + column));
        }
      }
    }
    context.putImageData(image, 0, 0);
  }

  return { make, percent, length, chart, tiles };
})();
