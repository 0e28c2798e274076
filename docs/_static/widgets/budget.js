/* Budget and receptive field of a network of one's own choosing: the networks `plain` of the package, by arithmetic. */
"use strict";

/** @type {any} */ (window).cnnhwWidgets ??= {};

/** @type {any} */ (window).cnnhwWidgets.budget = (place, { make, slider, choice }) => {
  const CLASSES = 5;
  const state = { size: 64, stages: 4, each: 1, kernel: 3, width: 16, head: "average" };

  /** Layers with their parameters and multiply-adds, and the receptive field of the last map. */
  function layers({ size, stages, each, kernel, width, head }) {
    const found = [];
    let [channels, side, field, step] = [3, size, 1, 1];
    for (let stage = 1; stage <= stages; stage++) {
      for (let number = 1; number <= each; number++) {
        const out = width * 2 ** (stage - 1);
        field += (kernel - 1) * step;
        const weights = channels * out * kernel * kernel;
        // the two numbers a channel are those of batch norm
        found.push({ name: `conv${stage}_${number}`, part: "features", parameters: weights + 2 * out, macs: weights * side * side });
        channels = out;
      }
      field += step;
      step *= 2;
      side = Math.floor(side / 2);
    }
    let numbers = head === "average" ? channels : channels * side * side;
    if (head === "flatten, hidden layer") {
      found.push({ name: "hidden", part: "head", parameters: (numbers + 1) * 256, macs: numbers * 256 });
      numbers = 256;
    }
    found.push({ name: "linear", part: "head", parameters: (numbers + 1) * CLASSES, macs: numbers * CLASSES });
    return { found, field, side };
  }

  const total = (found, what, part) =>
    found.reduce((sum, layer) => sum + (part && layer.part !== part ? 0 : layer[what]), 0);
  const share = (a, b) => `${Math.round((100 * a) / b)} %`;
  const words = (n) => n.toLocaleString("en");

  const picture = make("svg", { viewBox: "-2 -2 104 104", role: "img", class: "widget-field" });
  const bars = make("div", { class: "widget-bars" });
  const said = make("p", { class: "widget-said", "aria-live": "polite" });
  const command = make("code", { class: "widget-code" });

  function show() {
    const { found, field, side } = layers(state);
    const seen = Math.min(field, state.size);
    const unit = 100 / state.size;
    picture.setAttribute("aria-label", `The photo, and in its middle the ${seen} pixels that a cell of the last map sees`);
    picture.replaceChildren(
      make("rect", { x: 0, y: 0, width: 100, height: 100, class: "widget-photo" }),
      make("rect", { x: 50 - (seen * unit) / 2, y: 50 - (seen * unit) / 2, width: seen * unit, height: seen * unit, class: "widget-seen" }),
    );
    bars.replaceChildren(...[["parameters", "Parameters"], ["macs", "Multiply-adds"]].map(([what, title]) => {
      const [all, head] = [total(found, what), total(found, what, "head")];
      return make("div", {}, make("p", {}, `${title}: ${words(all)}, ${share(head, all)} of them in the head`),
        make("div", { class: "widget-bar" }, make("span", { style: `width: ${(100 * (all - head)) / all}%` })));
    }));
    const advice = seen < state.size / 2
      ? "A cell of the last map sees less than half of the photo's side, and larger things in parts only."
      : seen < state.size ? "A cell of the last map sees much of the photo, but not all." : "The field covers the photo.";
    const heavy = total(found, "parameters", "head") > total(found, "parameters", "features");
    said.textContent = `Last map ${side} × ${side}; receptive field ${field} of ${state.size} pixels. ${advice}${heavy ? " More parameters are in the head than in the extractor." : ""}`;
    const plan = Array(state.stages).fill(String(state.kernel).repeat(state.each)).join("-");
    const widths = Array.from({ length: state.stages }, (_, i) => state.width * 2 ** i).join("-");
    const head = { average: "average", flatten: "flatten", "flatten, hidden layer": "flatten-256" }[state.head];
    command.textContent =
      `cnnhw design plain --size ${state.size} --option kernels=${plan} --option widths=${widths} --option head=${head}`;
  }

  const set = (name) => (value) => { state[name] = value; show(); };
  place.append(
    slider("Photo's side", [32, 224, 32], state.size, set("size"), (v) => `${v} pixels`),
    slider("Stages, each halving the map", [1, 5, 1], state.stages, set("stages")),
    slider("Convolutions a stage", [1, 3, 1], state.each, set("each")),
    choice("Kernel", [3, 5, 7], state.kernel, set("kernel")),
    slider("Channels of the first stage", [8, 64, 8], state.width, set("width")),
    choice("Head", ["average", "flatten", "flatten, hidden layer"], state.head, set("head")),
    make("div", { class: "widget-row" }, picture, bars),
    said, make("p", {}, "The same, layer by layer: ", command),
  );
  show();
};
