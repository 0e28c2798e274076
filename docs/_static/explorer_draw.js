/* How the explorer draws: colours from low over zero to high, cells, frames, numbers. */
"use strict";

function explorerDraw() {
  const STEPS = 127; // colours on either side of zero

  /**
   * @param {HTMLElement} figure whose style names the colours
   * @returns {Uint32Array} from the low end over zero to the high end, as canvases hold pixels
   */
  function palette(figure) {
    const style = getComputedStyle(figure);
    const [low, zero, high] = ["--ex-low", "--ex-zero", "--ex-high"].map((name) => {
      const text = style.getPropertyValue(name).trim().slice(1);
      return [0, 2, 4].map((start) => parseInt(text.slice(start, start + 2), 16));
    });
    return Uint32Array.from({ length: 2 * STEPS + 1 }, (_, code) => {
      const [share, end] = [Math.abs(code - STEPS) / STEPS, code < STEPS ? low : high];
      const [r, g, b] = zero.map((value, k) => Math.round(value + share * (end[k] - value)));
      return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
    });
  }

  /** The colour of a value, where colours end at ±limit. */
  const colour = (colours, value, limit) =>
    colours[STEPS + Math.round(Math.max(-1, Math.min(1, value / (limit || 1))) * STEPS)];

  /** Give a canvas as many pixels as there are cells, each with its colour; `colourOf` takes the number of a cell. */
  function paint(canvas, width, height, colourOf) {
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const pixels = new Uint32Array(width * height);
    for (let i = 0; i < pixels.length; i++) pixels[i] = colourOf(i);
    const context = canvas.getContext("2d");
    context.putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
  }

  /** Paint cells whose frame is to be thinner than a cell: the canvas keeps its own pixels. */
  function paintLarge(canvas, width, height, colourOf) {
    const small = document.createElement("canvas");
    paint(small, width, height, colourOf);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  /** A frame around a part of a canvas, and within the canvas, or its edges would be cut off. */
  function frame(canvas, x, y, width, height) {
    const context = canvas.getContext("2d");
    for (const [shade, line] of [["#000", 7], ["#fff", 3]]) {
      context.strokeStyle = shade;
      context.lineWidth = line;
      const [left, top] = [Math.max(x, 2), Math.max(y, 2)];
      const [right, bottom] = [Math.min(x + width, canvas.width - 2), Math.min(y + height, canvas.height - 2)];
      context.strokeRect(left, top, right - left, bottom - top);
    }
  }

  const minus = (text) => text.replace("-", "−");

  /** A number with so many decimals, as sums are shown. */
  const exact = (value, places = 4) => minus(Math.abs(value) < 5e-5 ? "0" : value.toFixed(places));

  /** A number of a term, with so many decimals at most; where there is little room, without the zero before them. */
  const short = (value, places) => {
    const text = minus(String(Number(value.toFixed(places))));
    return places > 3 || Math.abs(value) >= 1 ? text : text.replace("0.", ".");
  };

  /** The letter colour that can be read on a colour of the palette. */
  const ink = (packed) => {
    const [r, g, b] = [packed & 255, (packed >> 8) & 255, (packed >> 16) & 255].map((part) => (part / 255) ** 2.2);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
  };

  /** A colour of the palette, as styles write it. */
  const css = (packed) => `rgb(${packed & 255} ${(packed >> 8) & 255} ${(packed >> 16) & 255})`;

  return { palette, colour, paint, paintLarge, frame, exact, short, ink, css };
}
