/* Guess the verdict: a reader who switches it on sees a finding after having said what to expect. What was said is kept
   in the browser and sent nowhere. The page brings questions and findings: see docs/cnnhw_docs/guess.py. */
"use strict";

(() => {
  const KEY = "cnnhw-guess";
  const NONE = "no difference that matters";
  const CHOICES = ["higher", "lower", NONE];
  const root = document.documentElement;

  /**
   * What is kept: whether answers are covered; by question, what was expected, or "" if it was shown without a guess;
   * and the questions that were guessed before they were run.
   * @typedef {{on: boolean, said: Record<string, string>, early: string[]}} Kept
   */

  /** @returns {Kept} what is kept; the beginning where nothing is, nothing may be, or it is not ours */
  function read() {
    let kept = null;
    try {
      kept = JSON.parse(localStorage.getItem(KEY) ?? "null");
    } catch {
      // guesses then last as long as the page
    }
    const said = Object.entries(kept?.said ?? {}).filter(([, one]) => one === "" || CHOICES.includes(one));
    return { on: kept?.on === true, said: Object.fromEntries(said), early: [kept?.early ?? []].flat() };
  }

  /** @type {(selector: string, within?: ParentNode) => HTMLElement[]} */
  const all = (selector, within = document) => [...within.querySelectorAll(selector)].map((one) => /** @type {any} */ (one));

  let state = read();
  root.dataset.guess = state.on ? "waits" : "off"; // the style hides findings until `draw` has covered some

  /** @type {HTMLElement[]} where questions of this page may be guessed */
  let places = [];

  /** @param {Partial<Kept>} news what is kept from now on, and shown */
  function change(news) {
    state = { ...state, ...news };
    try {
      localStorage.setItem(KEY, JSON.stringify(state));
    } catch {
      // as above
    }
    draw();
  }

  /**
   * @param {string} name of the element
   * @param {string} className
   * @param {string} [text]
   * @returns {any} an element of that name
   */
  const make = (name, className, text = "") =>
    Object.assign(document.createElement(name), { className, textContent: text });

  /**
   * Fill a place: the question, a button for each choice, one for being shown without a guess, and what came of it.
   * @param {HTMLElement} place
   */
  function fill(place) {
    const { question, asked, matters, finding } = place.dataset;
    const stop = /** @type {HTMLElement} */ (place.closest(".question-box") ?? place); // takes the focus, as the button that had it goes
    const choices = make("div", "guess-choices");
    for (const said of [...CHOICES, ""]) {
      const words = said === NONE ? `No difference that matters (less than ${matters})` : said || "Just show it";
      const button = make("button", said ? "" : "guess-show", words[0].toUpperCase() + words.slice(1));
      button.type = "button";
      button.addEventListener("click", () => {
        const early = said && !finding ? [...state.early, question] : state.early;
        change({ said: { ...state.said, [question]: said }, early });
        stop.focus();
      });
      choices.append(button);
    }
    const outcome = make("p", "guess-outcome");
    if (places.find(({ dataset }) => dataset.question === question) === place) outcome.role = "status"; // said once
    place.append(make("p", "guess-asked", `${asked}${finding ? "" : " Not run yet."}`), choices, outcome);
    Object.assign(place, { role: "group", ariaLabel: `What do you expect? ${asked}`, tabIndex: -1 });
    stop.tabIndex = -1;
  }

  /**
   * What came of a guess: a word for the style, and sentences.
   * @param {DOMStringMap} asked
   * @param {boolean} beside whether the finding stands beside it
   */
  function outcome({ question, predicted, known, finding, found }, beside) {
    const said = state.said[question], told = CHOICES.includes(finding);
    const shown = !finding ? " It is not run yet." : beside ? "" : ` Found: ${found}.`;
    if (!said) return ["", said === undefined || beside ? "" : `You did not guess.${shown}`];
    const judged = (one) => (told ? `: ${one === finding ? "right" : "not what was found"}.` : ".");
    const word = told ? (said === finding ? "right" : "wrong") : "open";
    const you = `You expected ${said}${state.early.includes(question) ? ", before the runs" : ""}${judged(said)}`;
    const authors = `The authors${known && `, who knew the outcome ${known},`} expected ${predicted}`;
    return [word, `${{ right: "✓ ", wrong: "✗ ", open: "" }[word]}${you} ${authors}${judged(predicted)}${shown}`];
  }

  /** @returns {string} the reader's guesses against the records, and the authors' predictions of the same questions */
  function score() {
    const guessed = places.map(({ dataset }) => dataset).filter(({ question }) => state.said[question]);
    const count = (test) => guessed.filter(test).length;
    const told = count(({ finding }) => CHOICES.includes(finding));
    const right = count(({ question, finding }) => state.said[question] === finding);
    const theirs = count(({ predicted, finding }) => predicted === finding);
    const known = count(({ finding, known }) => known && CHOICES.includes(finding));
    const early = count(({ finding }) => !finding);
    return [
      `You have guessed ${guessed.length} of ${places.length} questions.`,
      told && `You were right in ${right} of ${told}, the authors' registered predictions in ${theirs}.`,
      known && `The authors knew something of the outcome in ${known}.`,
      guessed.length > told + early && `The runs cannot tell in ${guessed.length - told - early}.`,
      early && `Not run yet: ${early}.`,
    ].filter(Boolean).join(" ");
  }

  /** Show the state: places, boxes of questions, passages that give a finding away, switches, score. */
  function draw() {
    const unsaid = (question) => state.said[question] === undefined;
    for (const place of places) {
      const box = place.closest(".question-box"), asks = unsaid(place.dataset.question);
      const [word, text] = outcome(place.dataset, Boolean(box));
      box?.classList.toggle("guess-closed", asks);
      for (const one of all(".guess-asked", place)) one.hidden = !asks && Boolean(box); // there, it is beside it
      for (const one of all(".guess-choices", place)) one.hidden = !asks;
      place.querySelector(".guess-outcome").textContent = text;
      place.dataset.outcome = word;
    }
    const passages = new Map(); // whether one tells what is not to be seen yet
    for (const mark of all("[data-said]")) {
      const passage = mark.closest("p, li, td") ?? mark.parentElement;
      passages.set(passage, passages.get(passage) || unsaid(mark.dataset.said));
    }
    passages.forEach((tells, passage) => passage.classList.toggle("guess-covered", tells));
    for (const one of all(".guess-offer > button")) one.ariaChecked = `${state.on}`;
    for (const one of all(".guess-score")) one.textContent = score();
    root.dataset.guess = state.on ? "on" : "off";
  }

  addEventListener("DOMContentLoaded", () => {
    places = all(".guess");
    places.forEach(fill);
    for (const offer of all(".guess-offer")) {
      offer.hidden = false;
      offer.querySelector("button").addEventListener("click", () => change({ on: !state.on }));
      offer.querySelector(".guess-forget")?.addEventListener("click", () => {
        if (confirm("Forget all your guesses?")) change({ said: {}, early: [] });
      });
    }
    draw();
  });

  const again = () => ((state = read()), draw());
  addEventListener("storage", ({ key }) => key === KEY && again()); // another tab has changed it
  addEventListener("pageshow", ({ persisted }) => persisted && again()); // the page comes back as it was left
})();
