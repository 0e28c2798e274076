/* The explorer: keeps what is chosen, asks the worker for what follows from it, and shows that. No library, no requests
   but for this site's own scripts. See docs/cnnhw_docs/explorer.py for the page's side. */
/* global explorerClasses, explorerCover, explorerDraw, explorerLoad, explorerPhoto, explorerSum */
"use strict";

/**
 * @typedef {{name: string, size: number, classes: string[], described: string, bytes: number,
 *   layers?: Layer[]}} Network its layers are known once it is loaded
 * @typedef {"trained" | "untrained"} Version
 */

(() => {
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const draw = explorerDraw();

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  /** The browser's own keys are not ours. */
  const moveOf = (event) => (event.altKey || event.ctrlKey || event.metaKey ? undefined : MOVES[event.key]);

  /** @param {HTMLElement} figure */
  function start(figure) {
    /** @type {(selector: string) => any} */
    const find = (selector) => figure.querySelector(selector);
    /** @type {(selector: string) => any[]} */
    const all = (selector) => [...figure.querySelectorAll(selector)];
    const { networks, opening } = JSON.parse(find("script").textContent);
    const load = explorerLoad(figure.dataset.base);
    const sum = explorerSum(figure, draw);
    const side = () => networkOf(state.network).size;
    const cover = explorerCover(figure, { size: side, move: moveOf, changed: () => refresh() });
    const [networkSelect, layerSelect] = [find("#explorer-network"), find("#explorer-layer")];
    const [photoCanvas, slider] = [find(".explorer-photo"), find("#explorer-channel")];
    /** @type {Record<Version, {panel: HTMLElement, canvas: HTMLCanvasElement, grid: any}>} */
    const panels = Object.fromEntries(
      all(".explorer-version").map((panel) => {
        const [canvas, grid] = [".explorer-map", ".explorer-grid"].map((name) => panel.querySelector(name));
        return [panel.dataset.version, { panel, canvas, grid }];
      }),
    );

    const state = {
      network: opening.network, layer: opening.layer, photo: opening.photo, channel: opening.channel,
      row: opening.row, column: opening.column, // the cell that is pinned, or null for the one in the middle
      view: "both", relu: false,
      active: /** @type {Version} */ ("trained"), // whose arithmetic is shown
    };
    /** @type {{row: number, column: number} | null} the cell under the pointer */
    let hover = null;
    /** @type {Blob | null} the reader's own photo */
    let own = null;
    /** @type {{network: Network, layer: Layer, place: Place, pixels: Uint8ClampedArray,
        maps: Record<Version, {data: Float32Array, limit: number}>} | null} what is drawn, and belongs together */
    let shown = null;
    let opened = false; // until then the address is the reader's
    const limits = new Map(); // of colours: kept while a part of the photo is covered
    const whole = new Map(); // probabilities of photos of which nothing is covered

    const networkOf = (name) => networks.find((one) => one.name === name);
    const versions = () => /** @type {Version[]} */ (state.view === "both" ? ["trained", "untrained"] : [state.view]);
    const keyOf = (name, version) => (version === "trained" ? name : `${name}-untrained`);
    const cell = () => hover ?? state;
    const say = (text) => { find(".explorer-said").textContent = text; };

    // ---- what is chosen, and what follows ------------------------------------------------------------------------

    let [running, again] = [false, false];
    /** Compute and draw what is chosen now; of what is chosen meanwhile, only the last. */
    async function refresh() {
      again = true;
      if (running) return;
      running = true;
      figure.setAttribute("aria-busy", "true");
      while (again) {
        again = false;
        try {
          await compute();
        } catch (error) {
          say(error.message);
        }
      }
      running = false;
      figure.setAttribute("aria-busy", "false");
    }

    async function compute() {
      const [network, name, wanted] = [networkOf(state.network), state.photo, versions()];
      if (!network.layers) say(`Loading ${network.name}, ${(network.bytes / 1e6).toFixed(1)} MB …`);
      const keys = wanted.map((version) => keyOf(network.name, version));
      [network.layers] = await Promise.all(keys.map(load.network));
      const pixels = await load.photo(name === "own" ? own : name, network.size);
      const layer = network.layers.find((one) => one.name === state.layer) ?? network.layers[0];
      const place = (state.relu && layer.after) || layer.before;
      const covered = cover.at(network.size);
      const [found, maps] = [{}, /** @type {Record<Version, {data: Float32Array, limit: number}>} */ ({})];
      for (const version of wanted) {
        const key = keyOf(network.name, version);
        const [photo, scale] = [`${key} ${name}`, `${key} ${layer.name} ${place.value} ${name}`];
        const first = !whole.has(photo) || !limits.has(scale);
        if (first) {
          whole.set(photo, await load.ask("run", key, pixels, network.size, null));
          limits.set(scale, await load.ask("limit", key, layer, place));
        }
        const known = first && !covered && whole.get(photo);
        const now = known || (await load.ask("run", key, pixels, network.size, covered));
        found[version] = { now, before: covered && whole.get(photo) };
        maps[version] = { data: await load.ask("maps", key, layer, place), limit: limits.get(scale) };
      }
      const other = networkOf(state.network) !== network || state.layer !== layer.name;
      if (again && other) return; // chosen otherwise meanwhile: the next turn draws that
      keepPlace(place);
      const same = shown?.network === network && shown.layer === layer;
      shown = { network, layer, place, pixels, maps };
      state.layer = layer.name;
      state.channel = Math.min(state.channel, layer.channels - 1);
      if (!same) drawChoices();
      drawGrids();
      drawChannel();
      explorerClasses(find(".explorer-classes"), network.classes, found);
    }

    /** The cell at the same place of the photo, where maps have another side. */
    function keepPlace({ side }) {
      const before = shown?.place.side ?? side;
      for (const axis of ["row", "column"]) {
        state[axis] ??= Math.floor(side / 2);
        if (side !== before) state[axis] = Math.floor(((state[axis] + 0.5) * side) / before);
        state[axis] = clamp(state[axis], 0, side - 1);
      }
      hover = null;
    }

    /** @param {Partial<typeof state>} change */
    function choose(change) {
      Object.assign(state, change);
      if ("view" in change && state.view !== "both") state.active = /** @type {Version} */ (state.view);
      drawControls();
      writeLink();
      refresh();
    }

    // ---- drawing -------------------------------------------------------------------------------------------------

    /** First and last pixel that a row or a column of cells sees. */
    function seen(index) {
      const { place: { start, jump, field }, network: { size } } = shown;
      const from = start + jump * index;
      return [Math.max(from, 0), Math.min(from + field, size) - 1];
    }

    function drawControls() {
      networkSelect.value = state.network;
      for (const input of all("input[type=radio]:not([name=explorer-side])")) {
        const group = input.name.slice("explorer-".length);
        input.checked = input.value === (group === "relu" ? (state.relu ? "after" : "before") : state[group]);
      }
      for (const [version, { panel }] of Object.entries(panels)) {
        panel.hidden = !versions().some((one) => one === version);
      }
      find(".explorer-panels").dataset.view = state.view;
    }

    /** What depends on network and layer alone. */
    function drawChoices() {
      const { network, layer } = shown;
      const { channels: many, inputs, kernel } = layer;
      const title = ({ words, channels, before }) => `${words}: ${channels} maps of ${before.side} × ${before.side}`;
      layerSelect.replaceChildren(...network.layers.map((one) => new Option(title(one), one.name)));
      layerSelect.value = layer.name;
      for (const input of all("input[name=explorer-relu]")) input.disabled = !layer.after;
      const { described, size } = network;
      find(".explorer-network-is").textContent = `${described} Photos of ${size} × ${size} pixels.`;
      const after = layer.after ? ` After it: ${layer.after.between.join(", ")}.` : "";
      find(".explorer-layer-is").replaceChildren(
        Object.assign(document.createElement("code"), { textContent: layer.name }),
        `: ${many} filters of ${kernel.join(" × ")} weights for each of ${inputs} inputs.${after}`,
      );
      find(".explorer-frozen").hidden = layer.learnt;
      slider.max = String(layer.channels - 1);
      for (const { grid } of Object.values(panels)) {
        grid.classList.toggle("explorer-few", layer.channels <= 16);
        while (grid.children.length > layer.channels) grid.lastChild.remove();
        while (grid.children.length < layer.channels) {
          const button = document.createElement("button");
          button.type = "button";
          button.setAttribute("role", "radio");
          button.setAttribute("aria-label", `channel ${grid.children.length}`);
          button.append(document.createElement("canvas"));
          grid.append(button);
        }
      }
    }

    function drawGrids() {
      const colours = draw.palette(figure);
      const { maps, place: { side } } = shown;
      for (const [version, { data, limit }] of Object.entries(maps)) {
        [...panels[version].grid.children].forEach((button, k) => {
          const from = k * side * side;
          draw.paint(button.firstChild, side, side, (i) => draw.colour(colours, data[from + i], limit));
        });
        const end = draw.exact(limit, limit < 0.1 ? 4 : 2);
        const ends = panels[version].panel.querySelectorAll(".explorer-ends > span");
        [`≤ −${end}`, "0", `≥ ${end}`].forEach((text, i) => { ends[i].textContent = text; });
      }
    }

    /** What depends on the channel. */
    function drawChannel() {
      slider.value = String(state.channel);
      find("output").textContent = `${state.channel} of 0–${slider.max}`;
      for (const { grid, panel } of Object.values(panels)) {
        panel.querySelector("h2 > span").textContent = ` channel ${state.channel}`;
        [...grid.children].forEach((button, k) => {
          button.setAttribute("aria-checked", String(k === state.channel));
          button.tabIndex = k === state.channel ? 0 : -1;
        });
        const { offsetTop, offsetHeight } = grid.children[state.channel] ?? grid;
        const hidden = offsetTop < grid.scrollTop || offsetTop + offsetHeight > grid.scrollTop + grid.clientHeight;
        if (hidden) grid.scrollTop = offsetTop - grid.clientHeight / 2; // where the grid scrolls
      }
      drawCell();
    }

    /** What depends on the cell: frames, the sentence, the sum. */
    function drawCell() {
      const { network, place: { side }, pixels, maps } = shown;
      const { row, column } = cell();
      const unit = photoCanvas.width / network.size;
      const words = new Uint32Array(pixels.buffer, pixels.byteOffset, network.size ** 2);
      draw.paintLarge(photoCanvas, network.size, network.size, (i) => words[i]);
      const [[left, right], [top, bottom]] = [seen(column), seen(row)];
      draw.frame(photoCanvas, left * unit, top * unit, (right - left + 1) * unit, (bottom - top + 1) * unit);
      const [colours, from] = [draw.palette(figure), state.channel * side * side];
      const told = [];
      for (const [version, { data, limit }] of Object.entries(maps)) {
        const { canvas } = panels[version];
        draw.paintLarge(canvas, side, side, (i) => draw.colour(colours, data[from + i], limit));
        const wide = canvas.width / side;
        draw.frame(canvas, column * wide, row * wide, wide, wide);
        told.push(`${version} ${draw.exact(data[from + row * side + column])}`);
      }
      say(
        `Channel ${state.channel}, row ${row}, column ${column}: ${told.join(", ")}. ` +
          `It sees pixels ${left} to ${right} across and ${top} to ${bottom} down.`,
      );
      drawSum();
    }

    let asked = 0;
    async function drawSum() {
      const { network, layer, place, maps } = shown;
      const [{ row, column }, version, number] = [cell(), state.active, ++asked];
      if (!maps[version]) return;
      const { channel } = state;
      const found = await load.ask("cell", keyOf(network.name, version), layer, place, channel, row, column);
      if (number !== asked) return; // another cell meanwhile
      const value = maps[version].data[(channel * place.side + row) * place.side + column];
      const which = place.pool === "max_pool" ? "largest" : "first";
      const pooled = place.pool ? ` Of the cells pooled here it is the ${which}.` : "";
      const end = place === layer.before ? "" : `${pooled} After ${place.between.join(", ")}: ${draw.exact(value)}.`;
      const whose = version === "trained" ? "Trained" : "Untrained";
      find(".explorer-whose").textContent = `${whose}, channel ${channel}, row ${found.row}, column ${found.column}`;
      sum.show(found, layer, end.trim());
    }

    // ---- choosing ------------------------------------------------------------------------------------------------

    networkSelect.addEventListener("change", () => choose({ network: networkSelect.value, layer: "", channel: 0 }));
    layerSelect.addEventListener("change", () => choose({ layer: layerSelect.value }));
    figure.addEventListener("change", (event) => {
      const target = /** @type {HTMLInputElement} */ (event.target);
      if (target.type !== "radio") return;
      const group = target.name.slice("explorer-".length);
      if (group !== "side") choose(group === "relu" ? { relu: target.value === "after" } : { [group]: target.value });
    });

    function chooseChannel(channel) {
      state.channel = clamp(channel, 0, Number(slider.max));
      writeLink();
      if (shown) drawChannel();
    }
    slider.addEventListener("input", () => chooseChannel(Number(slider.value)));

    for (const [version, { grid }] of Object.entries(panels)) {
      const activate = () => { state.active = /** @type {Version} */ (version); };
      grid.addEventListener("click", ({ target }) => {
        const button = target.closest("button");
        activate();
        if (button) chooseChannel([...grid.children].indexOf(button));
      });
      grid.addEventListener("keydown", (event) => {
        const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
        const move = moveOf(event);
        const to = move ? state.channel + move[0] + columns * move[1] : { Home: 0, End: Number(slider.max) }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        activate();
        if (to >= 0 && to <= Number(slider.max)) chooseChannel(to);
        grid.children[state.channel].focus();
      });
    }

    /** @param {number} row @param {number} column */
    function pin(row, column) {
      if (!shown) return;
      const { side } = shown.place;
      Object.assign(state, { row: clamp(row, 0, side - 1), column: clamp(column, 0, side - 1) });
      hover = null;
      drawCell();
    }
    const move = ([across, down]) => pin(state.row + down, state.column + across);
    find(".explorer-moves").addEventListener("click", ({ target }) => {
      if (target.dataset.move) move(MOVES[target.dataset.move]);
    });

    let next = 0;
    /** Show the cell under the pointer; a click or a touch pins it. */
    function point(canvas, version) {
      const at = ({ clientX, clientY }) => {
        const { left, top, width, height } = canvas.getBoundingClientRect();
        const index = (share) => clamp(Math.floor(share * shown.place.side), 0, shown.place.side - 1);
        return { row: index((clientY - top) / height), column: index((clientX - left) / width) };
      };
      const show = (event) => {
        if (!shown || !shown.maps[version ?? state.active]) return;
        if (version) state.active = version;
        const { row, column } = at(event);
        if (event.type === "pointerdown" || event.buttons === 1) return pin(row, column);
        hover = { row, column };
        cancelAnimationFrame(next);
        next = requestAnimationFrame(drawCell);
      };
      canvas.addEventListener("pointerdown", show);
      canvas.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") show(event); });
      canvas.addEventListener("pointerleave", () => {
        if (!hover) return;
        hover = null;
        cancelAnimationFrame(next);
        drawCell();
      });
    }
    point(photoCanvas, null); // cells lie evenly on the photo, too
    for (const [version, { canvas }] of Object.entries(panels)) {
      point(canvas, version);
      canvas.addEventListener("focus", () => { state.active = /** @type {Version} */ (version); });
      canvas.addEventListener("keydown", (event) => {
        const by = moveOf(event);
        if (!by) return;
        event.preventDefault();
        move(by);
      });
    }

    // ---- the reader's own photo ----------------------------------------------------------------------------------

    explorerPhoto(
      figure,
      async (file) => {
        const picture = URL.createObjectURL(file);
        try {
          await load.ask("photo", file, networkOf(state.network).size);
        } catch {
          URL.revokeObjectURL(picture);
          return say("This browser cannot read that picture.");
        }
        own = file;
        const label = find(".explorer-own");
        label.hidden = false;
        const image = label.querySelector("img");
        URL.revokeObjectURL(image.src);
        image.src = picture;
        for (const kept of [limits, whole]) [...kept.keys()].forEach((key) => key.endsWith(" own") && kept.delete(key));
        cover.clear();
        choose({ photo: "own" });
      },
      say,
    );

    // ---- links ---------------------------------------------------------------------------------------------------

    /** Show what the address asks for, such as #network=first_layer&layer=conv1&untrained. */
    function readLink() {
      const asked = new URLSearchParams(location.hash.slice(1));
      if (!networkOf(asked.get("network"))) return false;
      const change = { network: asked.get("network"), layer: asked.get("layer") ?? "", relu: asked.has("relu") };
      change.channel = Math.max(0, Number.parseInt(asked.get("channel"), 10) || 0);
      change.view = ["trained", "untrained"].find((view) => asked.has(view)) ?? "both";
      if (all("input[name=explorer-photo]").some(({ value }) => value !== "own" && value === asked.get("photo"))) {
        change.photo = asked.get("photo");
      }
      if (!shown) state.row = state.column = null; // the middle
      choose(change);
      return true;
    }
    function writeLink() {
      const { network, layer, channel, view, photo, relu } = state;
      const asked = new URLSearchParams({ network, ...(layer && { layer }), channel: String(channel) });
      if (photo !== "own") asked.set("photo", photo);
      const flags = `${view === "both" ? "" : `&${view}`}${relu ? "&relu" : ""}`;
      try {
        if (opened) history.replaceState(null, "", `#${asked}${flags}`);
      } catch {
        return; // too often, or in a frame: the address stays as it is
      }
    }
    addEventListener("hashchange", () => readLink() && figure.scrollIntoView());

    function recolour() {
      if (!shown) return;
      drawGrids();
      drawCell();
      sum.redraw();
    }
    new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

    figure.hidden = false;
    if (readLink()) figure.scrollIntoView();
    else choose({});
    opened = true;
  }

  document.querySelectorAll("figure.explorer").forEach(start);
})();
