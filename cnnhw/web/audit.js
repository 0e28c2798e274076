// The page of an audit: photos with what is known of them, and what somebody decides about each.
"use strict";

/**
 * @typedef {object} Photo
 * @property {string} name where it lies, below the folder
 * @property {string} part train, validation or test
 * @property {string} label the class given
 * @property {string} predicted the class that the network finds most probable, or ""
 * @property {?number} share its probability, 0 to 1
 * @property {number} [given] the probability of the class given, 0 to 1
 * @property {string} set the data set
 * @property {boolean} own whether it is of the data set that was audited
 * @property {string} credit
 * @property {string} digest of its file
 * @property {string} src
 * @property {number} width
 * @property {number} height
 * @property {[number, number]} pixels width and height of the file, or zeros
 *
 * @typedef {{do: string, to?: string}} Mark "keep", "move" or "aside"
 */

/** The document, whose elements are known by what the page has written. @type {any} */
const page = document;

/** @type {{id: string, format: string, folder: ?string, layout: ?string, classes: string[], photos: Photo[],
 *   suspicious: number[], copies: number[][]}} */
const audit = JSON.parse(page.getElementById("data").textContent);
const { photos, classes } = audit;
const PARTS = { train: "training", validation: "validation", test: "test" };

/** What was decided, by the number of the photo. @type {Map<number, Mark>} */
const marks = new Map();
/** What was there before each change, for undoing. @type {[number, Mark | undefined][][]} */
const before = [];
/** The cards of each photo, which may be suspicious and a copy. @type {any[][]} */
const cards = photos.map(() => []);

// ---- what the browser keeps: it may refuse, and what it gives back may be of anybody

const KEY = `cnnhw-audit-${audit.id}`;
let keeps = true;
let saved = true;

function keep() {
  saved = false;
  try {
    localStorage.setItem(KEY, JSON.stringify([...marks].map(([number, mark]) => [photos[number].name, mark])));
  } catch {
    keeps = false;
  }
}

function recall() {
  try {
    const numbers = new Map(photos.flatMap((photo, number) => (canMark(photo) ? [[photo.name, number]] : [])));
    for (const [name, mark] of JSON.parse(localStorage.getItem(KEY) ?? "[]")) {
      const fits = mark.do === "keep" || mark.do === "aside" || (mark.do === "move" && classes.includes(mark.to));
      if (numbers.has(name) && fits) marks.set(numbers.get(name), mark);
    }
  } catch {
    keeps = false;
  }
}

/** @param {Photo} photo */
function canMark(photo) {
  return audit.folder !== null && photo.own;
}

// ---- building the page: text of others goes in as text alone

/**
 * Return an element with attributes and children.
 * @param {string} tag
 * @param {Record<string, unknown>} attributes
 * @param {...(Node | string)} children
 */
function make(tag, attributes, ...children) {
  const made = page.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** @param {number} share */
function percent(share) {
  const whole = Math.round(100 * share);
  return whole === 100 ? "over\u00a099\u00a0%" : whole === 0 ? "under\u00a01\u00a0%" : `${whole}\u00a0%`;
}

/** What the network thinks, in words. @param {Photo} photo */
function opinion(photo) {
  const said = make("p", {}, photo.predicted === photo.label ? "The network agrees: " : "Looks like ");
  said.append(make("strong", {}, photo.predicted), ` ${percent(photo.share)}`);
  if (photo.given !== undefined) said.append(make("span", { class: "quiet" }, `, ${photo.label} ${percent(photo.given)}`));
  return said;
}

const allClasses = make("select", { "aria-label": "Class to move to" });
classes.forEach((name, number) => {
  allClasses.append(make("option", { value: number }, name));
});

/**
 * Return the card of a photo.
 * @param {number} number
 * @param {string} [hint] a class that it may belong to
 */
function card(number, hint = "") {
  const photo = photos[number];
  const id = `photo-${number}-${cards[number].length}`;
  const picture = make("img", { src: photo.src, width: photo.width, height: photo.height, decoding: "async" });
  picture.alt = `The photo, labelled ${photo.label}.`;
  picture.classList.toggle("tiny", Math.max(photo.width, photo.height) < 100);
  const facts = make("div", { class: "facts", id }, make("p", {}, "Labelled ", make("strong", {}, photo.label)));
  if (photo.predicted) facts.append(opinion(photo));
  const more = [PARTS[photo.part]];
  if (photo.pixels[0]) more.push(photo.pixels.join("\u00a0×\u00a0"));
  if (!photo.own) more.push(`in ${photo.set}`);
  facts.append(make("p", { class: "quiet small" }, `${photo.name} (${more.join(", ")})`));
  if (photo.credit) facts.append(make("p", { class: "quiet small" }, photo.credit));
  const made = make("div", { class: "photo", role: "group", tabindex: -1, "aria-labelledby": id, "data-number": number });
  made.append(make("div", { class: "picture" }, picture), facts);
  if (canMark(photo)) made.append(choices(number, hint));
  cards[number].push(made);
  return made;
}

/** @param {number} number @param {string} hint */
function choices(number, hint) {
  const photo = photos[number];
  const select = allClasses.cloneNode(true);
  const others = classes.filter((name) => name !== photo.label);
  select.options[classes.indexOf(photo.label)]?.remove();
  const likely = [photo.predicted, hint, ...(others.length === 1 ? others : [])].find((name) => others.includes(name));
  if (likely === undefined) select.prepend(make("option", { value: "", disabled: "" }, "class …"));
  select.value = likely === undefined ? "" : String(classes.indexOf(likely));
  const chosen = () => ({ do: "move", to: classes[Number(select.value)] });
  const buttons = {
    keep: make("button", { type: "button", "data-do": "keep" }, "Keep"),
    aside: make("button", { type: "button", "data-do": "aside" }, "Put aside"),
    move: make("button", { type: "button", "data-do": "move" }, "Move to"),
  };
  buttons.keep.addEventListener("click", () => toggle(number, { do: "keep" }));
  buttons.aside.addEventListener("click", () => toggle(number, { do: "aside" }));
  buttons.move.addEventListener("click", () => {
    if (select.value) toggle(number, chosen());
    else select.focus(); // nobody knows where to yet
  });
  select.addEventListener("change", () => change([[number, chosen()]]));
  return make("div", { class: "choices" }, ...Object.values(buttons), select);
}

/** @param {number[]} numbers */
function group(numbers) {
  const found = numbers.map((number) => photos[number]);
  const own = numbers.filter((number) => canMark(photos[number]));
  const parts = new Set(found.map((photo) => photo.part));
  const labels = [...new Set(found.map((photo) => photo.label))];
  const same = found.every((photo) => photo.digest === found[0].digest);
  const said = [same ? "that are the same file" : "that look the same"];
  if (parts.has("train") && parts.has("test")) said.push("in training and test");
  if (labels.length > 1) said.push("with different labels");
  const head = make("div", { class: "head" }, make("h3", {}, `${found.length} photos ${said.join(", ")}`));
  if (own.length > 1) {
    const first = make("button", { type: "button" }, "Keep the first, put the rest aside");
    first.addEventListener("click", () => {
      change(own.map((number, place) => [number, { do: place ? "aside" : "keep" }]));
    });
    head.append(first);
  }
  const shown = numbers.map((number) => card(number, labels.find((label) => label !== photos[number].label)));
  return make("div", { class: "group" }, head, make("div", { class: "photos" }, ...shown));
}

// ---- deciding

/** @param {number} number @param {Mark} mark */
function toggle(number, mark) {
  const now = marks.get(number);
  const same = now?.do === mark.do && now.to === mark.to;
  change([[number, same ? undefined : mark]]);
}

/**
 * Set or take away marks, and remember what was there.
 * @param {[number, Mark | undefined][]} changes
 */
function change(changes) {
  before.push(changes.map(([number]) => [number, marks.get(number)]));
  write(changes);
}

/** @param {[number, Mark | undefined][]} changes */
function write(changes) {
  for (const [number, mark] of changes) {
    if (mark) marks.set(number, mark);
    else marks.delete(number);
  }
  keep();
  show(changes.map(([number]) => number));
  const [number, mark] = changes[0];
  const said = changes.length > 1 ? `${changes.length} photos` : `${photos[number].name}: ${mark ? words(mark) : "no mark"}`;
  say(`${said}. ${progress()}`);
}

function undo() {
  const last = before.pop();
  if (!last) return;
  write(last);
  goTo(cards[last[0][0]].find((one) => one.checkVisibility()));
}

/** @param {Mark} mark */
function words(mark) {
  return { keep: "keep", aside: "put aside", move: `move to ${mark.to}` }[mark.do];
}

function progress() {
  const all = photos.filter(canMark).length;
  const count = (what) => [...marks.values()].filter((mark) => mark.do === what).length;
  const kinds = [`${count("keep")} keep`, `${count("move")} move`, `${count("aside")} aside`];
  return `${marks.size} of ${all} marked${marks.size ? `: ${kinds.join(", ")}` : ""}.`;
}

// ---- showing

const told = make("p", { role: "status", class: "visually-hidden" });
const line = make("p", { id: "progress" });
const bar = {
  next: make("button", { type: "button" }, "Next"),
  undo: make("button", { type: "button" }, "Undo"),
  save: make("button", { type: "button", class: "main" }, "Save marks"),
};
const hide = page.getElementById("hide");
const keys = page.getElementById("keys");

/** @param {string} text */
function say(text) {
  told.textContent = text;
}

/** Show the marks of some photos, and what follows from them. @param {Iterable<number>} numbers */
function show(numbers) {
  const focused = page.activeElement?.closest(".photo");
  const after = focused ? following(focused, 1) : null;
  for (const number of numbers) {
    const mark = marks.get(number);
    for (const one of cards[number]) {
      one.classList.toggle("marked", Boolean(mark));
      one.dataset.mark = mark?.do ?? "";
      for (const button of one.querySelectorAll("[data-do]")) {
        button.setAttribute("aria-pressed", String(button.dataset.do === mark?.do));
      }
      if (mark?.to) one.querySelector("select").value = String(classes.indexOf(mark.to));
    }
  }
  for (const one of page.querySelectorAll(".photo")) {
    one.hidden = hide.checked && (marks.has(Number(one.dataset.number)) || !canMark(photos[one.dataset.number]));
  }
  for (const one of page.querySelectorAll(".group")) {
    const all = [...one.querySelectorAll(".photo")];
    const open = all.some((photo) => !photo.hidden);
    for (const photo of all) photo.hidden = !open; // copies are told by each other
    one.hidden = !open;
  }
  if (focused && !focused.checkVisibility()) goTo(after);
  line.textContent = progress();
  bar.undo.disabled = before.length === 0;
  bar.save.disabled = marks.size === 0;
  bar.next.disabled = marks.size === photos.filter(canMark).length;
}

// ---- going from photo to photo

/** @param {any} from @param {1 | -1} step @param {(one: HTMLElement) => boolean} [wanted] */
function following(from, step, wanted = () => true) {
  const all = [...page.querySelectorAll(".photo:has(.choices)")].filter((one) => one.checkVisibility());
  const at = from ? all.indexOf(from) : step > 0 ? -1 : all.length;
  for (let next = at + step; next >= 0 && next < all.length; next += step) {
    if (wanted(all[next])) return all[next];
  }
  return null;
}

/** @param {?HTMLElement | undefined} one */
function goTo(one) {
  one?.focus({ preventScroll: true });
  one?.scrollIntoView({ block: "nearest" });
}

function nextUnmarked() {
  const unmarked = (one) => !marks.has(Number(one.dataset.number));
  goTo(following(current(), 1, unmarked) ?? following(null, 1, unmarked));
}

let lately = null;
page.addEventListener("focusin", (event) => {
  lately = event.target.closest?.(".photo") ?? lately;
});

/** The photo that has the focus, or had it last. */
function current() {
  return page.activeElement?.closest(".photo") ?? (lately?.checkVisibility() ? lately : null);
}

/** @param {any} event */
function press(event) {
  if (!keys.checked || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target.closest("select, summary, input, a")) return;
  const key = event.key.toLowerCase();
  const photo = current();
  const number = photo ? Number(photo.dataset.number) : -1;
  const button = photo?.querySelector(`[data-do="${{ k: "keep", m: "move", a: "aside" }[key]}"]`);
  const to = /^[1-9]$/.test(key) ? classes[Number(key) - 1] : undefined;
  if (button || (to !== undefined && photo?.querySelector("select"))) {
    const next = following(photo, 1);
    if (!button) change([[number, to === photos[number].label ? { do: "keep" } : { do: "move", to }]]);
    else if (button.getAttribute("aria-pressed") === "false") button.click();
    if (page.activeElement?.tagName !== "SELECT") goTo(next ?? photo); // where a class is to be chosen first
  } else if (key === "n") goTo(following(photo, 1) ?? photo);
  else if (key === "b") goTo(following(photo, -1) ?? photo);
  else if (key === "u") undo();
  else if (key === "c" && photo) photo.querySelector("select")?.focus();
  else return;
  event.preventDefault();
}

// ---- saving

function save() {
  const listed = [...marks].sort(([one], [other]) => one - other);
  const content = {
    format: audit.format,
    folder: audit.folder,
    layout: audit.layout,
    marks: listed.map(([number, mark]) => ({ photo: photos[number].name, digest: photos[number].digest, ...mark })),
  };
  const address = URL.createObjectURL(new Blob([`${JSON.stringify(content, null, 1)}\n`], { type: "application/json" }));
  const link = make("a", { href: address, download: "marks.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  saved = true;
  line.textContent = `${progress()} Saved as marks.json, where this browser puts downloads.`;
  say(line.textContent);
}

// ---- all together

function start() {
  page.querySelector("#suspicious .photos").append(...audit.suspicious.map((number) => card(number)));
  page.querySelector("#copies .groups").append(...audit.copies.map(group));
  if (audit.folder === null) return;
  const buttons = make("div", { class: "buttons" }, bar.next, bar.undo, bar.save);
  page.body.append(make("footer", { class: "bar" }, told, line, buttons));
  bar.next.addEventListener("click", nextUnmarked);
  bar.undo.addEventListener("click", undo);
  bar.save.addEventListener("click", save);
  hide.addEventListener("change", () => show([]));
  page.addEventListener("keydown", press);
  window.addEventListener("beforeunload", (event) => {
    if (!keeps && !saved) event.preventDefault(); // marks would be lost
  });
  recall();
  show(photos.keys());
  if (!keeps) page.getElementById("no-storage").hidden = false;
}

start();
