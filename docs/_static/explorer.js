/* The interactive figure: draws maps, filters and receptive fields of the chosen layer. No library, no other site. */
"use strict";

// each file of maps enters itself here, as text; see docs/cnnhw_docs/explorer_maps.py
const own = /** @type {any} */ (window);
own.cnnhwMaps = own.cnnhwMaps || {};

(() => {
  const ZERO = 127; // the code of the value 0
  const loading = new Map();

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  function once(key, start) {
    if (!loading.has(key)) {
      const promise = new Promise(start);
      promise.catch(() => loading.delete(key)); // so that a later choice tries again
      loading.set(key, promise);
    }
    return loading.get(key);
  }

  function loadMaps(base, key) {
    return once(key, (resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${base}${key}.js`;
      script.onload = () => resolve(bytes(own.cnnhwMaps[key]));
      script.onerror = () => reject(new Error(script.src));
      document.head.append(script);
    });
  }

  function loadPicture(address) {
    return once(address, (resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error(address));
      image.src = address;
    });
  }

  // colours from the low end over zero to the high end, one for each code
  function palette(figure, gain) {
    const style = getComputedStyle(figure);
    const [low, zero, high] = ["--ex-low", "--ex-zero", "--ex-high"].map((name) => {
      const text = style.getPropertyValue(name).trim().slice(1);
      return [0, 2, 4].map((start) => parseInt(text.slice(start, start + 2), 16));
    });
    return Array.from({ length: 2 * ZERO + 1 }, (_, code) => {
      const share = Math.max(-1, Math.min(1, ((code - ZERO) / ZERO) * gain));
      const end = share < 0 ? low : high;
      return zero.map((value, k) => Math.round(value + Math.abs(share) * (end[k] - value)));
    });
  }

  // cells of a square, each a colour, onto the whole canvas
  function paint(canvas, side, colourOf) {
    const small = document.createElement("canvas");
    small.width = small.height = side;
    const pixels = new ImageData(side, side);
    for (let i = 0; i < side * side; i++) {
      pixels.data.set([...colourOf(i), 255], 4 * i);
    }
    small.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  function frame(canvas, x, y, width, height) {
    const context = canvas.getContext("2d");
    for (const [colour, line] of [["#000", 7], ["#fff", 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      // inside of the canvas, or the edges would be cut off
      const [left, top] = [Math.max(x, 2), Math.max(y, 2)];
      const [right, bottom] = [Math.min(x + width, canvas.width - 2), Math.min(y + height, canvas.height - 2)];
      context.strokeRect(left, top, right - left, bottom - top);
    }
  }

  function start(figure) {
    const find = (name) => figure.querySelector(name);
    const { photos, networks } = JSON.parse(find("script").textContent);
    const base = figure.dataset.base;
    const [photoCanvas, mapCanvas, filterCanvas] = ["photo", "map", "filter"].map((name) => find(`.explorer-${name}`));
    const [select, slider, grid] = [find("#explorer-layer"), find("#explorer-channel"), find(".explorer-grid")];
    const ends = find(".explorer-ends").children;
    const state = { network: 0, photo: 0, layer: 0, channel: 0, row: 0, column: 0 };
    let picture = null;
    let maps = null; // the codes of all channels of the layer shown

    const network = () => networks[state.network];
    const layer = () => network().layers[state.layer];

    function value(code, scale) {
      const digits = Math.max(0, Math.ceil(-Math.log10((scale || 1) / ZERO)));
      const text = (((code - ZERO) / ZERO) * scale).toFixed(digits);
      return Number(text) === 0 ? "0" : text.replace("-", "−");
    }

    // first and last pixel that a row or a column of cells sees
    function box(cell) {
      const { offset, step, first, every, field } = layer();
      const from = Math.round(offset + step * (first + every * cell));
      return [Math.max(from, 0), Math.min(from + field, network().size) - 1];
    }

    function drawPhoto() {
      const unit = photoCanvas.width / network().size;
      const context = photoCanvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(picture, 0, 0, photoCanvas.width, photoCanvas.height);
      const [[left, right], [top, bottom]] = [box(state.column), box(state.row)];
      frame(photoCanvas, left * unit, top * unit, (right - left + 1) * unit, (bottom - top + 1) * unit);
    }

    function drawMap() {
      const { cells, scale, limit } = layer();
      const colours = palette(figure, scale / (limit || 1));
      const start = state.channel * cells * cells;
      paint(mapCanvas, cells, (i) => colours[maps[start + i]]);
      const unit = mapCanvas.width / cells;
      frame(mapCanvas, state.column * unit, state.row * unit, unit, unit);
    }

    function drawFilter() {
      const { filters, kernel, inputs, weights } = layer();
      const [codes, colour] = [bytes(filters), inputs === 3];
      paint(filterCanvas, kernel, (i) => {
        const at = state.channel * kernel * kernel + i;
        return colour ? codes.slice(3 * at, 3 * at + 3) : [codes[at], codes[at], codes[at]];
      });
      find(".explorer-about").textContent =
        `${kernel} × ${kernel} weights for ${inputs} inputs` +
        (colour ? ": red, green and blue" : "; their mean over the inputs") +
        `. Mid grey is 0, black and white are ±${weights[state.channel].toPrecision(2)}, the largest of this filter.`;
    }

    function say() {
      const { name, cells, scale, every, first } = layer();
      const code = maps[(state.channel * cells + state.row) * cells + state.column];
      const [row, column] = [state.row, state.column].map((cell) => first + every * cell);
      const [[left, right], [top, bottom]] = [box(state.column), box(state.row)];
      find(".explorer-said").textContent =
        `Layer ${name}, channel ${state.channel}, row ${row}, column ${column}: value ${value(code, scale)}; ` +
        `sees pixels ${left} to ${right} across and ${top} to ${bottom} down.`;
    }

    function drawGrid() {
      const { cells, scale, limit } = layer();
      const colours = palette(figure, scale / (limit || 1));
      [...grid.children].forEach((button, k) => {
        paint(button.firstChild, cells, (i) => colours[maps[k * cells * cells + i]]);
      });
    }

    function showChannel() {
      const { channels, side, every } = layer();
      slider.max = channels - 1;
      slider.value = state.channel;
      find("output").textContent = `${state.channel} of 0–${channels - 1}`;
      [...grid.children].forEach((button, k) => {
        button.setAttribute("aria-checked", k === state.channel);
        button.tabIndex = k === state.channel ? 0 : -1;
      });
      const { offsetTop, offsetHeight } = grid.children[state.channel];
      const hidden = offsetTop < grid.scrollTop || offsetTop + offsetHeight > grid.scrollTop + grid.clientHeight;
      if (hidden) grid.scrollTop = offsetTop - grid.clientHeight / 2; // on phones, where the grid scrolls
      find("#explorer-map-title").textContent = `Map of channel ${state.channel}`;
      find("#explorer-photo-title").textContent = `Photo ${photos[state.photo].name}`;
      find(".explorer-thin").textContent =
        `Photo: ${network().size} × ${network().size} pixels. Map: ${side} × ${side} cells` +
        (every > 1 ? `, one row and column in ${every} shown.` : ".");
      drawFilter();
      if (maps) {
        drawMap();
        drawPhoto();
        say();
      }
    }

    function showLayer() {
      const { cells, channels, scale, limit } = layer();
      while (grid.children.length > channels) grid.lastChild.remove();
      while (grid.children.length < channels) {
        const [button, canvas] = [document.createElement("button"), document.createElement("canvas")];
        button.type = "button";
        button.setAttribute("role", "radio");
        button.setAttribute("aria-label", `channel ${grid.children.length}`);
        button.append(canvas);
        grid.append(button);
      }
      for (const button of grid.children) button.firstChild.width = button.firstChild.height = cells;
      const end = value(ZERO + (limit / (scale || 1)) * ZERO, scale);
      ends[0].textContent = `≤ −${end}`;
      ends[2].textContent = `≥ ${end}`;
      maps = null;
      showChannel();
      const wanted = `${network().name}-${state.photo}-${layer().name}`;
      figure.setAttribute("aria-busy", "true");
      Promise.all([loadMaps(base, wanted), loadPicture(`${base}photo-${network().size}-${state.photo}.png`)]).then(
        ([codes, image]) => {
          if (wanted !== `${network().name}-${state.photo}-${layer().name}`) return; // chosen otherwise meanwhile
          [maps, picture] = [codes, image];
          figure.setAttribute("aria-busy", "false");
          drawGrid();
          showChannel();
        },
        (error) => {
          find(".explorer-said").textContent = `A file of this figure cannot be read: ${error.message}`;
        },
      );
    }

    function choose(change) {
      const before = layer().cells;
      Object.assign(state, change);
      state.layer = Math.min(state.layer, network().layers.length - 1);
      state.channel = Math.min(state.channel, layer().channels - 1);
      const { cells } = layer();
      for (const axis of ["row", "column"]) {
        // the same place of the photo
        if (cells !== before) state[axis] = Math.floor(((state[axis] + 0.5) * cells) / before);
        state[axis] = Math.max(0, Math.min(cells - 1, state[axis]));
      }
      if ("network" in change) {
        const title = ({ name, channels, side }) => `${name}: ${channels} maps of ${side} × ${side}`;
        select.replaceChildren(...network().layers.map((one, k) => new Option(title(one), k)));
      }
      select.value = state.layer;
      const other = ["network", "photo", "layer"].some((part) => part in change);
      (other ? showLayer : showChannel)();
    }

    figure.addEventListener("change", ({ target }) => {
      if (target.type === "radio") choose({ [target.name.slice("explorer-".length)]: Number(target.value) });
      if (target === select) choose({ layer: Number(select.value) });
    });
    slider.addEventListener("input", () => choose({ channel: Number(slider.value) }));

    grid.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) choose({ channel: [...grid.children].indexOf(button) });
    });
    grid.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own keys
      const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
      const last = layer().channels - 1;
      const [across, down] = MOVES[event.key] || [0, 0];
      const to = { Home: 0, End: last }[event.key] ?? state.channel + across + columns * down;
      if (!(event.key in MOVES || event.key === "Home" || event.key === "End")) return;
      event.preventDefault();
      if (to >= 0 && to <= last) choose({ channel: to });
      grid.children[state.channel].focus();
    });

    function moveUnit(key) {
      if (!(key in MOVES)) return false;
      choose({ column: state.column + MOVES[key][0], row: state.row + MOVES[key][1] });
      return true;
    }
    mapCanvas.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (moveUnit(event.key)) event.preventDefault();
    });
    find(".explorer-moves").addEventListener("click", ({ target }) => moveUnit(target.dataset.move));

    function point(event) {
      if (event.type === "pointermove" && (event.pointerType !== "mouse" || event.buttons !== 1)) return;
      const { left, top, width, height } = event.currentTarget.getBoundingClientRect();
      const [across, down] = [(event.clientX - left) / width, (event.clientY - top) / height];
      choose({ column: Math.floor(across * layer().cells), row: Math.floor(down * layer().cells) });
    }
    for (const canvas of [photoCanvas, mapCanvas]) {
      canvas.addEventListener("pointerdown", point); // cells lie evenly on the photo, too
      canvas.addEventListener("pointermove", point);
    }

    function recolour() {
      if (!maps) return;
      drawGrid();
      drawMap();
    }
    new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

    figure.hidden = false;
    const checked = (group) => Number(find(`input[name=explorer-${group}]:checked`).value); // kept by a reload
    state.row = state.column = Math.floor(layer().cells / 2);
    choose({ network: checked("network"), photo: checked("photo") });
  }

  document.querySelectorAll("figure.explorer").forEach(start);
})();
