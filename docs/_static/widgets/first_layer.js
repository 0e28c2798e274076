/* The first layer of a network on its way from random weights to trained ones: a photo, its edges, and the maps. */
"use strict";

/** @type {any} */ (window).cnnhwWidgets ??= {};

/** @type {any} */ (window).cnnhwWidgets.first_layer = (place, { engine, make, slider }) => {
  const { side, kernel, photo, start, end } = JSON.parse(place.querySelector("script").textContent);
  const SHOWN = 8; // maps
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const pixels = bytes(photo); // (3, side, side)
  const [untrained, trained] = [floats(start), floats(end)];
  const channels = untrained.length / (3 * kernel * kernel);
  const input = engine.tensor([1, 3, side, side], Float32Array.from(pixels, (value) => value / 255));
  const edges = sobel();

  /** The magnitude of the luminance's slope, by Sobel's kernels; beyond its border the photo is mirrored. */
  function sobel() {
    const grey = (row, column) => {
      const at = [row, column].map((i) => (i < 0 ? -i : i >= side ? 2 * side - 2 - i : i));
      const i = at[0] * side + at[1], all = side * side;
      return (0.299 * pixels[i] + 0.587 * pixels[all + i] + 0.114 * pixels[2 * all + i]) / 255;
    };
    return Float32Array.from({ length: side * side }, (_, i) => {
      const [y, x] = [Math.floor(i / side), i % side];
      const slope = (weigh) => [-1, 0, 1].reduce((sum, d) => sum + (2 - Math.abs(d)) * (weigh(1, d) - weigh(-1, d)), 0);
      return Math.hypot(slope((far, d) => grey(y + d, x + far)), slope((far, d) => grey(y + far, x + d)));
    });
  }

  /** The maps of the layer whose weights lie a share of the way from the untrained to the trained ones. */
  function maps(share) {
    const mixed = untrained.map((value, i) => value + share * (trained[i] - value));
    const step = { op: "convolution", inputs: [0], weights: [0], stride: [1, 1], padding: [(kernel - 1) / 2, (kernel - 1) / 2] };
    const weights = [engine.tensor([channels, 3, kernel, kernel], mixed)];
    const found = engine.forward({ steps: [step], weights }, input)[1].data;
    return Array.from({ length: channels }, (_, c) => found.slice(c * side * side, (c + 1) * side * side));
  }

  /** How far the strength of a map and that of the edges go together. */
  function correlation(map) {
    const strength = map.map(Math.abs);
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const [a, b] = [mean(strength), mean(edges)];
    let [both, one, other] = [0, 0, 0];
    strength.forEach((value, i) => {
      both += (value - a) * (edges[i] - b);
      one += (value - a) ** 2;
      other += (edges[i] - b) ** 2;
    });
    return Math.abs(both) / Math.sqrt(one * other || 1);
  }

  /** Draw numbers in grey, black for the lowest, or a photo. */
  function paint(canvas, values) {
    const context = canvas.getContext("2d"), image = context.createImageData(side, side);
    const colours = values === pixels, all = side * side;
    const [low, high] = colours ? [0, 255] : [Math.min(...values), Math.max(...values)];
    for (let i = 0; i < all; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * (values[colours ? c * all + i : i] - low) / (high - low || 1);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  const canvas = (words, small) => make("canvas", {
    width: side, height: side, role: "img", "aria-label": words, class: small ? "widget-small" : null,
  });
  const part = (title, shown) => make("div", { class: "widget-part" }, make("p", {}, title), shown);
  const [shown, slopes] = [canvas("a generated scene"), canvas("the scene's edges, by Sobel's kernels")];
  const drawn = Array.from({ length: SHOWN }, (_, i) => canvas(`map ${i + 1} of the first layer`, true));
  const said = make("p", { class: "widget-said", "aria-live": "polite" });

  function draw(share) {
    const found = maps(share);
    drawn.forEach((one, i) => paint(one, found[i]));
    const mean = found.reduce((sum, map) => sum + correlation(map), 0) / channels;
    const where = share === 0 ? "Untrained" : share === 1 ? "Trained" : `${Math.round(100 * share)} % of the way`;
    said.textContent = `${where}: the maps and the edges correlate by ${mean.toFixed(2)}, mean of ${channels} maps.`;
  }

  place.append(
    slider("From untrained to trained", [0, 1, 0.05], 0, draw, (share) => `${Math.round(100 * share)} %`),
    make("div", { class: "widget-row" }, part("Scene", shown), part("Its edges (Sobel)", slopes)),
    part(`Maps of the first layer (${SHOWN} of ${channels})`, make("div", { class: "widget-maps" }, ...drawn)),
    said,
  );
  paint(shown, pixels);
  paint(slopes, edges);
  draw(0);
};
