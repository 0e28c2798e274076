/* A convolution by hand: a small picture, a kernel, the map, and the sum of one of its cells term by term. */
"use strict";

/** @type {any} */ (window).cnnhwWidgets ??= {};

/** @type {any} */ (window).cnnhwWidgets.convolution = (place, { engine, make, choice, still }) => {
  const SIDE = 7, KERNEL = 3, OUT = SIDE - KERNEL + 1;
  const PICTURES = {
    square: (row, column) => (row > 1 && row < 5 && column > 1 && column < 5 ? 9 : 0),
    bar: (row, column) => (column === 2 || column === 3 ? 9 : 0),
    diagonal: (row, column) => (row === column ? 9 : 0),
  };
  const KERNELS = {
    "upright edges": [-1, 0, 1, -2, 0, 2, -1, 0, 1],
    "level edges": [-1, -2, -1, 0, 0, 0, 1, 2, 1],
    spots: [-1, -1, -1, -1, 8, -1, -1, -1, -1],
    blur: [1, 1, 1, 1, 1, 1, 1, 1, 1],
  };
  let picture = fill("square");
  let kernel = [...KERNELS["upright edges"]];
  let chosen = 0; // cell of the map
  let map = [];
  let timer = 0;

  function fill(name) {
    return Array.from({ length: SIDE * SIDE }, (_, i) => PICTURES[name](Math.floor(i / SIDE), i % SIDE));
  }

  /** The map, by the same engine that runs the book's networks. */
  function compute() {
    const step = { op: "convolution", inputs: [0], weights: [0], stride: [1, 1], padding: [0, 0] };
    const weights = [engine.tensor([1, 1, KERNEL, KERNEL], Float32Array.from(kernel))];
    const values = engine.forward({ steps: [step], weights }, engine.tensor([1, 1, SIDE, SIDE], Float32Array.from(picture)));
    return Array.from(values[1].data);
  }

  const patch = () => Array.from({ length: KERNEL * KERNEL }, (_, i) => {
    const [row, column] = [Math.floor(chosen / OUT) + Math.floor(i / KERNEL), (chosen % OUT) + (i % KERNEL)];
    return row * SIDE + column;
  });

  const cells = picture.map((_, i) => make("button", { type: "button", onclick: () => change(i) }));
  const weights = kernel.map((_, i) => make("input", {
    type: "number", step: 1, min: -9, max: 9, "aria-label": `weight in row ${1 + Math.floor(i / 3)}, column ${1 + (i % 3)}`,
    oninput: ({ target }) => { kernel[i] = Math.max(-9, Math.min(9, Number(target.value) || 0)); draw(); },
  }));
  const sums = Array.from({ length: OUT * OUT }, (_, i) => make("button", {
    type: "button", onclick: () => choose(i), onfocus: () => choose(i), onpointerenter: () => choose(i),
  }));
  const said = make("p", { class: "widget-said", "aria-live": "polite" });

  function change(i) {
    stop();
    picture[i] = picture[i] ? 0 : 9;
    draw();
  }

  function choose(i) {
    stop();
    chosen = i;
    draw();
  }

  function stop() {
    clearInterval(timer);
  }

  /** Grey from the lowest to the highest of some numbers, and black or white figures that can be read on it. */
  function shade(element, value, low, high) {
    const share = (value - low) / (high - low || 1);
    element.style.setProperty("--grey", `${Math.round(255 * share)}`);
    element.style.setProperty("--ink", share > 0.5 ? "#000" : "#fff");
  }

  function draw() {
    map = compute();
    const below = new Set(patch());
    cells.forEach((cell, i) => {
      cell.textContent = String(picture[i]);
      cell.setAttribute("aria-label", `pixel in row ${1 + Math.floor(i / SIDE)}, column ${1 + (i % SIDE)}: ${picture[i]}`);
      cell.classList.toggle("widget-marked", below.has(i));
      shade(cell, picture[i], 0, 9);
    });
    weights.forEach((input, i) => { if (Number(input.value) !== kernel[i] || !input.value) input.value = kernel[i]; });
    const end = Math.max(1, ...map.map(Math.abs));
    sums.forEach((cell, i) => {
      cell.textContent = String(map[i]).replace("-", "−");
      cell.setAttribute("aria-label", `map, row ${1 + Math.floor(i / OUT)}, column ${1 + (i % OUT)}: ${map[i]}`);
      cell.classList.toggle("widget-marked", i === chosen);
      shade(cell, map[i], -end, end);
    });
    const terms = patch().map((at, i) => `${picture[at]}·${kernel[i] < 0 ? `(−${-kernel[i]})` : kernel[i]}`);
    said.textContent = `${terms.join(" + ")} = ${map[chosen]}`.replace("= -", "= −");
  }

  const grid = (title, side, parts) => make("div", { class: "widget-part" }, make("p", {}, title),
    make("div", { class: "widget-grid", style: `--side: ${side}` }, ...parts));
  place.append(
    choice("Picture", Object.keys(PICTURES), "square", (name) => { picture = fill(name); draw(); }),
    choice("Kernel", Object.keys(KERNELS), "upright edges", (name) => { kernel = [...KERNELS[name]]; draw(); }),
    make("div", { class: "widget-row" }, grid("Picture: click to change a pixel", SIDE, cells),
      grid("Kernel: type your own", KERNEL, weights), grid("Map: point at a cell", OUT, sums)),
    said,
  );
  draw();
  if (!still) {
    // once over the map, so that the kernel is seen to slide
    timer = setInterval(() => {
      if (chosen + 1 >= map.length) return stop();
      chosen += 1;
      draw();
    }, 400);
  }
};
