/* A trained network as one page: photos come in by any way a browser knows, classes go out.

   The network computes in a worker, one photo at a time, so that the page never stalls and memory stays that of one
   photo. All text that others chose, names of files and classes, is set as text and never read as HTML. */
"use strict";

/* global cnn, photoTools */

/** What the worker does; `engine` and `tools` are cnn() and photoTools(). */
function classifierWork(engine, tools) {
  const SIDE = 240; // pixels of a thumbnail, at most
  let network, about;

  self.onmessage = async ({ data }) => {
    if (data.program) {
      about = data.about;
      network = engine.unpack(data.program);
      self.postMessage({ ready: true });
      return;
    }
    try {
      const pixels = await tools.read(data.file).catch(() => null);
      self.postMessage(pixels ? { probabilities: classify(pixels), thumbnail: await thumbnail(pixels) } : { unread: true });
    } catch (error) {
      self.postMessage({ failed: String(error.message || error) });
    }
  };

  function classify(pixels) {
    const square = tools.resize(about.crop ? tools.crop(pixels) : pixels, about.size);
    const values = engine.forward(network, tools.tensorOf(square, about.size));
    return engine.probabilities(values.at(-1))[0];
  }

  async function thumbnail(pixels) {
    const picture = await createImageBitmap(pixels);
    const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
    const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
    picture.close();
    return canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
  }
}

/**
 * @typedef {{probability: number | null, accuracy: number, validation: {photos: number, answered: number, correct: number}}} Threshold
 * @typedef {{classes: string[], size: number, crop: boolean, licence: string, network: string, version: string,
 *   difference: number, threshold: Threshold | null}} About
 * @typedef {{name: string, probabilities: number[], order: number[], card: HTMLElement}} Result
 */

function classifierPage() {
  const GUESS = 0.6; // below it, where nothing is known, the page says "not sure"
  const SHOWN = 3; // classes a photo
  const NAMED = 3; // files a reason
  /** @type {(id: string) => any} */
  const at = (id) => document.getElementById(id);
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;
  const level = (share) => percent(share, Math.abs(100 * share - Math.round(100 * share)) < 0.05 ? 0 : 1);
  const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

  /** An element with a text, which is never read as HTML. */
  function element(tag, text = "", name = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  /** @type {{about: About, program: object}} */
  const { about, program } = JSON.parse(at("data").textContent);
  at("data").remove(); // the text of all weights

  // ---- how sure is sure enough ----------------------------------------------------------------------------------

  const chosen = about.threshold?.probability ?? GUESS;
  let threshold = chosen;

  function origin() {
    const { threshold: found } = about;
    if (!found) return `${level(GUESS)} is a guess: nobody has tried it on photos. Move the slider to what suits you.`;
    const { photos, answered } = found.validation;
    const told = `on the ${plural(photos, "validation photo")}`;
    const wanted = level(found.accuracy);
    if (found.probability === null) {
      return `${level(GUESS)} is a guess: ${told}, no threshold was found from which on ${wanted} of the answers are correct.`;
    }
    return `Chosen ${told}: it answered ${answered.toLocaleString("en")} of them, and at least ${wanted} of these answers were correct.`;
  }

  function setThreshold(value) {
    threshold = value;
    at("threshold").value = Math.round(100 * value);
    at("threshold").setAttribute("aria-valuetext", level(value));
    at("level").textContent = level(value);
    at("reset").textContent = `Back to ${level(chosen)}`;
    at("reset").hidden = value === chosen;
    results.forEach(judge);
    list();
  }

  // ---- results --------------------------------------------------------------------------------------------------

  /** @type {Result[]} */
  let results = [];
  const sure = ({ probabilities, order }) => probabilities[order[0]] >= threshold;

  function bar(name, share) {
    const row = element("li");
    const label = element("span", name);
    label.dir = "auto";
    const track = element("span", "", "bar");
    const fill = element("span");
    track.setAttribute("aria-hidden", "true"); // the number says the same
    fill.style.width = `${100 * share}%`;
    track.append(fill);
    row.append(label, element("span", percent(share), "share"), track);
    return row;
  }

  function card(name, probabilities, order, thumbnail) {
    const made = element("li");
    const picture = element("img", "", "thumbnail");
    picture.alt = ""; // the file's name stands beside it
    picture.src = URL.createObjectURL(thumbnail);
    const file = element("p", name, "file quiet");
    const verdict = element("p", "", "verdict");
    file.dir = verdict.dir = "auto";
    const bars = element("ul", "", "bars");
    bars.append(...order.slice(0, SHOWN).map((k) => bar(about.classes[k], probabilities[k])));
    const text = element("div");
    text.append(file, verdict, bars);
    made.append(picture, text);
    return made;
  }

  /** @param {Result} result */
  function judge(result) {
    const top = about.classes[result.order[0]];
    result.card.classList.toggle("unsure", !sure(result));
    result.card.querySelector(".verdict").textContent = sure(result) ? top : `Not sure: ${top}?`;
  }

  function add(name, { probabilities, thumbnail }, before) {
    const order = probabilities.map((_, k) => k).sort((a, b) => probabilities[b] - probabilities[a]);
    const result = { name, probabilities, order, card: card(name, probabilities, order, thumbnail) };
    results.push(result);
    judge(result);
    at("list").insertBefore(result.card, before);
    list();
  }

  /** Which results there are, how many of each kind, and only those wanted. */
  function list() {
    at("results").hidden = !results.length;
    const counts = new Map();
    for (const result of results) {
      const kind = sure(result) ? result.order[0] : -1;
      counts.set(kind, (counts.get(kind) || 0) + 1);
    }
    const wanted = at("show").value;
    const kinds = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
    const option = (value, text) => {
      const made = element("option", text);
      made.value = value;
      return made;
    };
    at("show").replaceChildren(
      option("", `all photos (${results.length})`),
      ...kinds.map((k) => option(k, `${k < 0 ? "not sure" : about.classes[k]} (${counts.get(k)})`)),
    );
    at("show").value = counts.has(Number(wanted)) && wanted !== "" ? wanted : "";
    filter();
  }

  function filter() {
    const wanted = at("show").value;
    for (const result of results) {
      const kind = sure(result) ? result.order[0] : -1;
      result.card.hidden = wanted !== "" && Number(wanted) !== kind;
    }
  }

  function clear() {
    for (const { card: gone } of results) URL.revokeObjectURL(gone.querySelector("img").src);
    results = [];
    queue.length = 0;
    leftOut.clear();
    at("list").replaceChildren();
    list();
    tellLeftOut();
    at("status").textContent = "";
    at("choose").focus();
  }

  // ---- table ----------------------------------------------------------------------------------------------------

  /** A cell of CSV. A spreadsheet takes what begins so for a formula, and runs it: an apostrophe keeps it a text. */
  function cell(text) {
    const plain = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  }

  function table() {
    const rows = results.map((result) => [
      cell(result.name), cell(about.classes[result.order[0]]), sure(result) ? "yes" : "no",
      ...result.probabilities.map((share) => share.toFixed(4)),
    ]);
    return [["photo", "class", "sure", ...about.classes.map(cell)], ...rows].map((row) => `${row.join(",")}\n`).join("");
  }

  function save() {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", table()], { type: "text/csv" })); // the mark tells Excel it is UTF-8
    link.download = "classes.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  // ---- files that are no photos ---------------------------------------------------------------------------------

  /** @type {Map<string, string[]>} names by reason */
  const leftOut = new Map();

  function leaveOut(name, reason) {
    leftOut.set(reason, [...(leftOut.get(reason) || []), name]);
    tellLeftOut();
  }

  const leftOutTold = () => `${plural([...leftOut.values()].flat().length, "file")} left out`;

  function tellLeftOut() {
    at("left").hidden = !leftOut.size;
    at("left-title").textContent = leftOutTold();
    at("left").querySelector("ul").replaceChildren(
      ...[...leftOut].map(([reason, names]) => {
        const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
        const line = element("li");
        const which = element("bdi", names.slice(0, NAMED).join(", "));
        line.append(which, `${more}: ${reason}`);
        return line;
      }),
    );
  }

  /** Why a browser could not read a file. */
  async function reason(file) {
    const start = new Uint8Array(await file.slice(0, 12).arrayBuffer().catch(() => new ArrayBuffer(0)));
    const text = String.fromCharCode(...start);
    const convert = "save it as JPEG first";
    if (!start.length) return "empty, a folder, or not readable";
    if (/^.{4}ftyp(hei|hev|mif|msf)/s.test(text)) {
      return `HEIC, as iPhones take them, which this browser cannot read: ${convert}, or set the iPhone's camera to “Most Compatible”`;
    }
    if (/^(II\*\0|MM\0\*)/.test(text)) return `TIFF or a raw photo, which this browser cannot read: ${convert}`;
    if (/^(\xff\xd8\xff|\x89PNG|GIF8|RIFF.{4}WEBP|BM)/s.test(text)) return "damaged, or too large for this browser";
    return "no photo that this browser can read: JPEG, PNG, WebP and GIF will do";
  }

  // ---- the worker, and what waits for it ------------------------------------------------------------------------

  const code = `"use strict"; (${classifierWork})((${cnn})(), (${photoTools})());`;
  const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  let told; // takes the worker's next answer
  const ask = (message) => new Promise((resolve) => {
    told = resolve;
    worker.postMessage(message);
  });
  worker.onmessage = ({ data }) => told(data);
  worker.onerror = (event) => {
    at("status").textContent = `The network cannot compute in this browser (${event.message || "no worker"}): try another, or a newer one.`;
  };

  const queue = [];
  let working = false;
  let done = 0;

  /** @param {{name: string, file?: Blob, reason?: string}[]} given */
  function take(given) {
    if (!given.length) return;
    const before = at("list").firstChild; // those that came last are shown first, each lot in its order
    queue.push(...given.map((one) => ({ ...one, before })));
    work();
  }

  async function work() {
    if (working) return count();
    working = true;
    leftOut.clear(); // of the lot before
    tellLeftOut();
    const before = results.length;
    at("status").textContent = "Looking …";
    await ready;
    for (done = 0; queue.length; done++) {
      const { name, file, before: place, reason: known } = queue.shift();
      count();
      const answer = known ? {} : await ask({ file });
      if (answer.probabilities) add(name, answer, place?.isConnected ? place : null);
      else leaveOut(name, known || (answer.failed ? `not computed (${answer.failed})` : await reason(file)));
    }
    working = false;
    count();
    at("status").textContent = summary(results.slice(before));
  }

  function count() {
    const all = done + queue.length + 1;
    at("working").hidden = !working || all < 2;
    at("progress").max = all;
    at("progress").value = done;
    at("count").textContent = `${(done + 1).toLocaleString("en")} of ${plural(all, "photo")}`;
  }

  function summary(fresh) {
    const left = leftOut.size ? ` ${leftOutTold()}.` : "";
    if (fresh.length !== 1) {
      const unsure = fresh.filter((result) => !sure(result)).length;
      return `${plural(fresh.length, "photo")} classified${unsure ? `, not sure of ${unsure}` : ""}.${left}`;
    }
    const [{ name, order, probabilities, card: only }] = fresh;
    return `${name}: ${only.querySelector(".verdict").textContent} (${percent(probabilities[order[0]])})${left && `.${left}`}`;
  }

  // ---- ways in --------------------------------------------------------------------------------------------------

  const named = (files) => [...files].map((file) => ({ name: file.name, file }));

  function choose(input) {
    take(named(input.files));
    input.value = ""; // the same photo may be chosen again
  }

  function drop(event) {
    event.preventDefault();
    at("drop").classList.remove("over");
    const items = [...event.dataTransfer.items].filter(({ kind }) => kind === "file");
    const given = items.map((item) => {
      const file = item.getAsFile();
      const folder = item.webkitGetAsEntry?.()?.isDirectory;
      return { name: file?.name || "?", file, reason: folder && "a folder: open it, and drop the photos in it" };
    });
    if (!given.length) at("status").textContent = "No file was dropped: save the picture first, then drop the file.";
    take(given);
  }

  let pasted = 0;
  function paste(event) {
    const files = [...event.clipboardData.files];
    if (!files.length) at("status").textContent = "There is no photo on the clipboard: copy one first.";
    // pictures that were copied are all called image.png
    take(files.map((file) => ({ name: file.name === "image.png" ? `pasted ${++pasted}.png` : file.name, file })));
  }

  // ---- camera ---------------------------------------------------------------------------------------------------

  const video = document.querySelector("video");
  let shots = 0;

  /** A phone's own camera is the better one; elsewhere a stream, where the browser gives pages from a disk one. */
  async function camera() {
    if (!navigator.mediaDevices?.getUserMedia || matchMedia("(pointer: coarse)").matches) return at("capture").click();
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      const why = error.name === "NotAllowedError" ? "the browser was not allowed to use it" : "none was found, or another program uses it";
      at("status").textContent = `No camera: ${why}. Choose a photo instead.`;
      return;
    }
    at("taken").textContent = "";
    at("viewer").showModal();
    await video.play();
  }

  function shoot() {
    if (!video.videoWidth) return;
    const canvas = element("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    const name = `camera ${++shots}.png`;
    canvas.toBlob((file) => take([{ name, file }]));
    at("taken").textContent = `${plural(shots, "photo")} taken`;
  }

  function closeCamera() {
    const stream = /** @type {MediaStream | null} */ (video.srcObject);
    for (const track of stream?.getTracks() || []) track.stop();
    video.srcObject = null;
  }

  // ---- beginning ------------------------------------------------------------------------------------------------

  function describe() {
    document.querySelector("h1").textContent = document.title;
    at("origin").textContent = origin();
    at("known").textContent = plural(about.classes.length, "class", "classes");
    at("known").onclick = () => { at("classes").open = true; };
    at("classes").querySelector("ul").append(...about.classes.map((name) => {
      const made = element("li", name);
      made.dir = "auto";
      return made;
    }));
    const seen = about.crop ? "the middle square of a photo is seen" : "a photo is squashed to a square";
    at("about").textContent =
      `Network ${about.network || "of its maker's own"}: ${seen}, of ${about.size} × ${about.size} pixels. ` +
      `On random photos its probabilities differ from the original's by ${about.difference.toPrecision(1)} at most. ` +
      `Made with cnnhw ${about.version}.`;
    at("licence").textContent = about.licence && `Licence: ${about.licence}`;
  }

  function listen() {
    const click = { choose: () => at("files").click(), camera, shoot, save, clear, close: () => at("viewer").close() };
    for (const [id, act] of Object.entries(click)) at(id).onclick = act;
    at("stop").onclick = () => { queue.length = 0; };
    at("reset").onclick = () => { setThreshold(chosen); at("threshold").focus(); };
    at("threshold").oninput = () => setThreshold(at("threshold").value / 100);
    at("show").onchange = filter;
    at("files").onchange = () => choose(at("files"));
    at("capture").onchange = () => choose(at("capture"));
    at("viewer").onclose = closeCamera;
    document.onpaste = paste;
    document.ondrop = drop;
    document.ondragover = (event) => { event.preventDefault(); at("drop").classList.add("over"); };
    document.ondragleave = (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); };
  }

  describe();
  listen();
  const ready = ask({ program, about });
  setThreshold(chosen);
  ready.then(() => { if (!working) at("status").textContent = ""; });
}

classifierPage();
