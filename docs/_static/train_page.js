/* "Train it here": the knobs, the curves and what the network sees. Training itself goes on in one worker a network. */
/* global cnn, photoTools, trainChallenges, trainDraw, trainLoop, trainNet, trainWorker */
"use strict";

(() => {
  const SIDE = 32;
  const figure = /** @type {HTMLElement} */ (document.querySelector("figure.train"));
  if (!figure || !window.Worker || !window.OffscreenCanvas) return; // what the page says without script stays

  const { make, percent, length, chart, tiles } = trainDraw;

  /**
   * @param {string} selector
   * @returns {any} an element of whichever kind
   */
  const find = (selector) => figure.querySelector(selector);

  const colour = (name) => getComputedStyle(figure).getPropertyValue(`--tr-${name}`).trim();
  const say = (text) => { find(".train-said").textContent = text; };

  // ---- knobs ------------------------------------------------------------------------------------------------------

  /**
   * Name of the setting, its words, its choices (true for yes or no), and the one to begin with.
   * @type {any[][]}
   */
  const KNOBS = [
    ["The network"],
    ["stages", "Stages (each halves the maps)", [1, 2, 3, 4], 3],
    ["blocks", "Pairs of convolutions after each", [0, 1, 2, 3, 4], 0],
    ["width", "Channels of the first stage", [4, 6, 8, 12, 16], 8],
    ["kernel", "Side of the kernels", [1, 3, 5, 7], 3],
    ["shortcuts", "Shortcuts around pairs", true, false],
    ["norm", "Batch norm", true, true],
    ["The training"],
    ["rate", "Learning rate", [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3], 0.1],
    ["schedule", "Rate over the run", ["constant", "cycle"], "cycle"],
    ["optimiser", "Optimiser", ["sgd", "adam"], "sgd"],
    ["batch", "Photos a step (batch)", [8, 16, 32, 64], 32],
    ["epochs", "Epochs", [2, 6, 12, 30, 60], 12],
    ["The photos"],
    ["photos", "Photos to train on", [25, 50, 100, 200, 400, 600], 600],
    ["mirror", "Mirror them at random", true, true],
    ["shift", "Shift at random, up to", [0, 1, 2, 4], 0],
  ];
  const WORDS = { constant: "steady", sgd: "SGD", adam: "Adam" };

  // ---- lanes: A, and B in a comparison ------------------------------------------------------------------------------

  const engineText = `"use strict"; const engine = (${cnn})();
    (${trainWorker})(engine, (${trainLoop})(engine, (${trainNet})()), (${photoTools})(), self);`;
  const place = URL.createObjectURL(new Blob([engineText], { type: "text/javascript" }));

  /**
   * A network with its worker. `run` is what is known of its present run, `seen` the last report.
   * @typedef {{name: string, worker: Worker, run: Run?, seen: Object?}} Lane
   */

  /** @returns {Lane} */
  function open(name) {
    const lane = { name, worker: new Worker(place), run: null, seen: null };
    lane.worker.onmessage = ({ data: message }) => HEARD[message.kind](message, lane);
    lane.worker.onerror = ({ message }) => say(`The training has stopped: ${message}`);
    return lane;
  }

  const lanes = [open("A")];
  let scenes = null, data = null; // the package's scenes, and what is trained on now
  /** @type {Run[]} of this visit, for the challenges */
  let runs = [];
  let playing = false, begun = 0, asked = 0;
  let looked = 0, held = 0; // the lane that is looked into, and the number of the held-out photo
  let given = null; // the reader's photo to try, instead of a held-out one

  function settings(lane) {
    const chosen = /** @type {any} */ ({ seed: Math.max(0, Math.floor(Number(find("#train-seed").value))) || 0 });
    for (const [name, , choices] of KNOBS) {
      if (!choices) continue;
      const knob = find(`#train-${name}-${lane.name}`);
      chosen[name] = choices === true ? knob.checked : choices[knob.selectedIndex];
    }
    return chosen;
  }

  /** Begin all runs anew, from the same seed. */
  function begin() {
    playing = false;
    for (const lane of lanes) {
      const number = ++begun;
      const classes = data.classes.length;
      lane.run = { number, settings: settings(lane), classes, losses: [], points: [], state: "ready" };
      runs = [...runs, lane.run].slice(-40);
      lane.worker.postMessage({ act: "begin", number, settings: lane.run.settings });
    }
    showButtons();
  }

  const toAll = (message) => lanes.forEach(({ worker }) => worker.postMessage(message));
  const over = ({ run }) => run && (run.state === "done" || run.state === "diverged");

  /** Take photos to train on: the scenes, or the reader's. */
  function take(photos) {
    data = photos;
    [held, given, runs] = [0, null, []]; // runs on other photos cannot be compared
    for (const lane of lanes) lane.seen = null;
    toAll({ act: "data", data });
    look();
  }

  /** Show what the networks make of a photo: the reader's, or one that is held out. */
  function look() {
    if (!data) return;
    const photo = given ?? data.held.images.slice(3 * SIDE * SIDE * held, 3 * SIDE * SIDE * (held + 1));
    toAll({ act: "look", photo });
    paintPhoto(photo);
    find(".train-true").textContent = given ? "Your photo" : `Held-out photo: ${data.classes[data.held.labels[held]]}`;
  }

  /** Load the scenes when they are first needed, and go on when they are there. */
  function ready(then) {
    if (data) return then();
    say("Loading the scenes …");
    waiting = then;
    if (asked++) return;
    const script = make("script", { src: figure.dataset.scenes });
    script.onload = () => lanes[0].worker.postMessage({ act: "scenes", packed: /** @type {any} */ (window).trainScenes });
    script.onerror = () => {
      asked = 0;
      script.remove();
      say("The scenes could not be loaded. Press Start to try again.");
    };
    document.head.append(script);
  }
  let waiting = null;

  const HEARD = {
    data: (message) => {
      scenes = message.data;
      if (!data) take(scenes);
      waiting?.();
      waiting = null;
    },
    squares: (message) => OWN_HEARD[message.about.what](message),
    report: (message, lane) => {
      const { run } = lane;
      if (run?.number !== message.number) return; // of a run that is given up
      const before = run.state;
      run.losses.push(...message.losses);
      Object.assign(run, { points: message.points, state: message.state });
      lane.seen = message;
      judge();
      if (run.state !== before && over(lane)) tellEnd(lane);
      if (playing && lanes.every(over)) playing = false;
      show();
    },
  };

  function tellEnd({ name, run }) {
    const { accuracy, heldAccuracy } = run.points.at(-1);
    const which = lanes.length > 1 ? `${name}: ` : "";
    const score = met.size ? ` Challenges met: ${met.size} of ${trainChallenges.length}, see below.` : "";
    say((run.state === "diverged"
      ? `${which}Diverged: the loss is no number any more. Try a lower rate.`
      : `${which}Done. Training accuracy ${percent(accuracy)}, held-out accuracy ${percent(heldAccuracy)}.`) + score);
  }

  // ---- buttons ------------------------------------------------------------------------------------------------------

  function start() {
    if (lanes.some(({ run }) => !run) || lanes.every(over)) begin();
    playing = true;
    toAll({ act: "play" });
    say("Training.");
    showButtons();
  }

  function pause() {
    playing = false;
    toAll({ act: "pause" });
    say("Paused.");
    showButtons();
  }

  function step() {
    if (lanes.some(({ run }) => !run) || lanes.every(over)) begin();
    playing = false;
    toAll({ act: "step" });
    say("One step: one batch forwards, and the weights a little downhill.");
    showButtons();
  }

  function reset(why = "Back at the first step, with new weights from the seed.") {
    if (data) begin();
    for (const lane of lanes) if (!data) lane.run = lane.seen = null;
    show();
    say(why);
  }

  function showButtons() {
    find(".train-start").textContent = playing ? "Pause" : "Start";
  }

  function compare(on) {
    playing = false;
    if (on) {
      lanes.push(open("B"));
      copyKnobs();
      if (data) lanes[1].worker.postMessage({ act: "data", data });
    } else lanes.pop().worker.terminate();
    if (!on) looked = 0;
    figure.classList.toggle("train-both", on);
    for (const one of figure.querySelectorAll(".train-b")) /** @type {HTMLElement} */ (one).hidden = !on;
    look();
    reset(on ? "B has a worker and settings of its own. Both begin from the same seed." : "One network again.");
  }

  // ---- what is shown ------------------------------------------------------------------------------------------------

  function show() {
    showButtons();
    showNumbers();
    showCurves(lanes.filter(({ run }) => run));
    const lane = lanes[looked] ?? lanes[0];
    find(".train-inside").hidden = !lane.seen;
    if (!lane.seen) return;
    showFilters(lane.seen);
    showChances(lane.seen);
    showConfusion(lane.seen);
  }

  /** How many photos a run trains on. */
  const used = ({ settings: { photos } }) => Math.min(photos, data.training.labels.length);

  /** @param {Lane[]} shown */
  function showCurves(shown) {
    const pair = ({ name, run }, training, heldOut) =>
      [[`${name} training`, training(run)], [`${name} held`, kept(run, heldOut)]];
    const losses = shown.flatMap((lane) => pair(lane, smooth, "heldLoss"));
    const accuracies = shown.flatMap((lane) => pair(lane, (run) => kept(run, "accuracy"), "heldAccuracy"));
    const highest = losses.flatMap(([, points]) => points.map(([, y]) => y)).reduce((a, b) => Math.max(a, b), 2);
    const end = Math.max(1, ...shown.map(({ run }) => run.settings.epochs * used(run)));
    const classes = data ? data.classes.length : 1;
    chart(find(".train-loss"), { end, top: Math.min(6, highest), level: Math.log(classes), lines: losses });
    chart(find(".train-accuracy"), { end, top: 1, level: data ? 1 / classes : 0, lines: accuracies, format: percent });
  }

  /** What evaluations found, over photos seen. */
  const kept = (run, name) =>
    run.points.map((point) => [point.seen, point[name]]).filter(([, y]) => Number.isFinite(y));

  /** The loss of the batches, as a mean over ten steps. */
  function smooth(run) {
    const { losses, settings: { batch } } = run;
    const perStep = used(run) / Math.ceil(used(run) / batch);
    const every = Math.max(1, Math.ceil(losses.length / 200)); // no more points than there are pixels
    const points = [];
    for (let i = 0; i < losses.length; i += every) {
      const near = losses.slice(Math.max(0, i - 9), i + 1);
      const mean = near.reduce((a, b) => a + b) / near.length;
      if (Number.isFinite(mean)) points.push([(i + 1) * perStep, mean]);
    }
    return points;
  }

  function showNumbers() {
    const rows = lanes.filter(({ seen, run }) => seen && run?.points.length).map(({ name, seen, run }) => {
      const point = run.points.at(-1);
      const perEpoch = seen.steps / run.settings.epochs;
      const loss = run.losses.length ? run.losses.at(-1).toFixed(2) : "–";
      const cells = [
        `${(seen.step / perEpoch).toFixed(1)} of ${run.settings.epochs}`, seen.speed ? seen.speed.toFixed(0) : "–",
        loss, percent(point.accuracy), percent(point.heldAccuracy),
      ];
      const head = make("th", { scope: "row", className: `train-name-${name}` }, name);
      return make("tr", {}, head, ...cells.map((text) => make("td", {}, text)));
    });
    find(".train-numbers tbody").replaceChildren(...rows);
  }

  // ---- looking inside -------------------------------------------------------------------------------------------------

  const parsed = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

  function showFilters({ filters, maps }) {
    const [many, , side] = filters.shape;
    const columns = Math.min(many, 8);
    const cell = (i) => Math.floor((i * side) / SIDE);
    tiles(find(".train-filters"), many, columns, (tile, row, column) => {
      const own = filters.data.subarray(tile * 3 * side * side, (tile + 1) * 3 * side * side);
      const most = own.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
      return [0, 1, 2].map((c) => 127.5 * (1 + own[(c * side + cell(row)) * side + cell(column)] / most));
    });
    if (!maps) return;
    const [low, zero, high] = ["low", "zero", "high"].map((name) => parsed(colour(name)));
    const most = maps.data.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
    tiles(find(".train-maps"), many, columns, (tile, row, column) => {
      const value = maps.data[(tile * SIDE + row) * SIDE + column] / most;
      const share = Math.sqrt(Math.abs(value)) || 0;
      return zero.map((from, c) => from + share * ((value < 0 ? low : high)[c] - from));
    });
  }

  function paintPhoto(photo) {
    tiles(find(".train-photo"), 1, 1, (_, row, column) => {
      const from = 3 * (row * SIDE + column);
      return photo.subarray(from, from + 3);
    });
  }

  function showChances({ chances }) {
    if (!chances) return;
    const truth = given ? -1 : data.held.labels[held];
    find(".train-chances").replaceChildren(...chances.map((chance, k) => {
      const share = Number.isFinite(chance) ? chance : 0;
      const bar = make("span", { className: "train-bar" });
      bar.style.setProperty("--share", length(share));
      const [name, said] = [data.classes[k], percent(share)].map((text) => make("span", {}, text));
      return make("li", { className: k === truth ? "train-truth" : "" }, name, bar, said);
    }));
  }

  function showConfusion({ confusion }) {
    const head = make("tr", {}, make("td"), ...data.classes.map((name) => make("th", { scope: "col" }, name)));
    const rows = confusion.map((row, k) => {
      const sum = row.reduce((a, b) => a + b, 0) || 1;
      const cells = row.map((count, j) => {
        const cell = make("td", { className: j === k ? "right" : "wrong" }, String(count));
        cell.style.setProperty("--share", length((0.6 * count) / sum));
        return cell;
      });
      return make("tr", {}, make("th", { scope: "row" }, data.classes[k]), ...cells);
    });
    find(".train-confusion").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  }

  // ---- challenges -----------------------------------------------------------------------------------------------------

  const met = new Set();

  function judge() {
    for (const { name, met: holds, why } of trainChallenges) {
      if (met.has(name) || !holds(runs.filter(({ points }) => points.length))) continue;
      met.add(name);
      const item = find(`[data-challenge=${name}]`);
      item.classList.add("train-met");
      item.querySelector(".train-why").textContent = `Done. ${why}`;
      item.querySelector("details").hidden = true;
      say("You have met a challenge: see below for why.");
    }
  }

  function buildChallenges() {
    find(".train-challenges").append(...trainChallenges.map(({ name, asks, hint }) => {
      const help = make("details", {}, make("summary", {}, "Hint"), make("p", {}, hint));
      const why = make("p", { className: "train-why", role: "status" });
      return make("li", { "data-challenge": name }, make("p", {}, asks), help, why);
    }));
  }

  // ---- the reader's own pictures ------------------------------------------------------------------------------------

  const LEAST = 5, MOST = 6; // pictures a class, and classes
  /** @type {{name: HTMLInputElement, squares: Uint8Array[], row: HTMLElement}[]} kept in memory, and nowhere else */
  const own = [];

  function addClass() {
    const number = own.length + 1;
    const called = `class ${number}`;
    const name = make("input", { type: "text", value: called, maxLength: 30, "aria-label": `Name of ${called}` });
    const files = make("input", { type: "file", multiple: true, accept: "image/*", "aria-label": `Pictures of ${called}` });
    const none = "No pictures yet: choose some, or drop them here.";
    const count = make("p", { className: "train-count", role: "status" }, none);
    const one = { name, squares: [], row: make("div", { className: "train-class" }, name, files, count) };
    own.push(one);
    const read = (list) => {
      const about = { what: "class", number, many: list.length };
      if (list.length) lanes[0].worker.postMessage({ act: "read", files: [...list], about });
    };
    files.addEventListener("change", () => read(files.files));
    one.row.addEventListener("dragover", (event) => event.preventDefault());
    one.row.addEventListener("drop", (event) => {
      event.preventDefault();
      read(event.dataTransfer.files);
    });
    find(".train-classes").append(one.row);
    find(".train-more").disabled = own.length === MOST;
  }

  const OWN_HEARD = {
    class: ({ squares, about: { number, many } }) => {
      const one = own[number - 1];
      one.squares.push(...squares);
      const lost = many - squares.length;
      one.row.querySelector(".train-count").textContent = `${one.squares.length} pictures`
        + (lost ? `; ${lost} could not be read as pictures` : "") + ".";
    },
    photo: ({ squares }) => {
      if (!squares.length) return say("This file could not be read as a picture.");
      if (!data) return;
      [given] = squares;
      look();
    },
  };

  /** Train on the reader's pictures: every fourth of a class is held out. */
  function useOwn() {
    const full = own.filter(({ squares }) => squares.length);
    const few = full.find(({ squares }) => squares.length < LEAST);
    if (full.length < 2 || few) {
      return find(".train-own-said").textContent = few
        ? `${few.name.value} has ${few.squares.length} pictures; give at least ${LEAST}.`
        : "Give pictures of two classes at least.";
    }
    const parts = [[], []];
    full.forEach(({ squares }, label) => {
      squares.forEach((square, i) => parts[i % 4 === 3 ? 1 : 0].push({ square, label }));
    });
    const [training, heldOut] = parts.map(pack);
    take({ classes: full.map(({ name }, k) => name.value.trim() || `class ${k + 1}`), training, held: heldOut });
    const [many, rest] = [training, heldOut].map(({ labels }) => labels.length);
    find(".train-own-said").textContent = `${many} pictures to train on, ${rest} held out.`;
    reset("Your pictures are ready: press Start.");
  }

  /** Interleave classes, so that the first photos are of all of them. */
  function pack(list) {
    const turn = new Map();
    const order = list.map((one) => {
      turn.set(one.label, (turn.get(one.label) ?? -1) + 1);
      return { ...one, turn: turn.get(one.label) };
    }).sort((a, b) => a.turn - b.turn || a.label - b.label);
    const images = new Uint8Array(3 * SIDE * SIDE * order.length);
    order.forEach(({ square }, n) => images.set(square, n * square.length));
    return { images, labels: order.map(({ label }) => label) };
  }

  /** B begins with the settings of A, so that what is changed then is all that differs. */
  function copyKnobs() {
    for (const [name, , choices] of KNOBS) {
      if (!choices) continue;
      const [from, to] = ["A", "B"].map((lane) => find(`#train-${name}-${lane}`));
      if (choices === true) to.checked = from.checked;
      else to.selectedIndex = from.selectedIndex;
    }
  }

  // ---- set up -------------------------------------------------------------------------------------------------------

  function buildKnobs() {
    let group = null;
    for (const [name, words, choices, first] of KNOBS) {
      if (!words) {
        group = make("fieldset", {}, make("legend", {}, name));
        find(".train-knobs").append(group);
        continue;
      }
      const row = make("div", { className: "train-knob" }, make("span", { id: `train-${name}` }, words));
      for (const lane of ["A", "B"]) {
        const extra = lane === "B" ? "train-b" : "";
        const said = extra ? { "aria-label": `${words}, B` } : { "aria-labelledby": `train-${name}` };
        const knob = choices === true
          ? make("input", { type: "checkbox", checked: first, ...said })
          : make("select", said, ...choices.map((choice) =>
            make("option", { selected: choice === first }, WORDS[choice] ?? String(choice))));
        knob.id = `train-${name}-${lane}`;
        row.append(make("label", { className: `train-hold ${extra}`, hidden: Boolean(extra) }, knob));
      }
      group.append(row);
    }
  }

  buildKnobs();
  buildChallenges();
  addClass();
  addClass();
  find(".train-knobs").addEventListener("change", () => reset("Settings changed: the runs begin anew."));
  find("#train-seed").addEventListener("change", () => reset("Another seed: other weights, another order of photos."));
  find(".train-start").addEventListener("click", () => (playing ? pause() : ready(start)));
  find(".train-step").addEventListener("click", () => ready(step));
  find(".train-reset").addEventListener("click", () => ready(() => reset()));
  find(".train-compare").addEventListener("change", ({ target }) => compare(target.checked));
  find(".train-which").addEventListener("change", ({ target }) => {
    looked = Number(target.value);
    show();
  });
  find(".train-another").addEventListener("click", () => ready(() => {
    given = null;
    held = (held + 1) % data.held.labels.length;
    look();
  }));
  find(".train-try").addEventListener("change", ({ target }) => ready(() => {
    lanes[0].worker.postMessage({ act: "read", files: [...target.files].slice(0, 1), about: { what: "photo" } });
  }));
  find(".train-more").addEventListener("click", addClass);
  find(".train-use").addEventListener("click", useOwn);
  find(".train-back").addEventListener("click", () => {
    data = null;
    find(".train-own-said").textContent = "";
    if (scenes) take(scenes);
    ready(() => reset("The package's scenes again: press Start."));
  });
  addEventListener("resize", () => data && show());
  new MutationObserver(() => data && show()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => data && show());
  figure.hidden = false;
  show();
})();
