/* Starts the widgets of a page once they come into view. Each script of this folder has entered its function under its
   name: it gets a place on the page and the tools below, and may return what is to be done when the place is seen. */
/* global cnn */
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";

  /**
   * Make an element: attributes by name, listeners by "onclick" and the like, children in order.
   * @returns {any}
   */
  function make(name, attributes = {}, ...children) {
    const svg = ["svg", "path", "rect", "line", "text", "g", "circle", "title"].includes(name);
    const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  /** A labelled slider that shows its value; act(value) is called when it moves. */
  function slider(label, [low, high, step], value, act, say = String) {
    const output = make("output", {}, say(value));
    const input = make("input", { type: "range", min: low, max: high, step, value });
    input.addEventListener("input", () => {
      output.textContent = say(Number(input.value));
      act(Number(input.value));
    });
    return make("label", { class: "widget-slider" }, make("span", {}, label), input, output);
  }

  /** Choices of which one holds, as buttons; act(choice) is called when another is chosen. */
  function choice(label, choices, chosen, act) {
    const buttons = choices.map((one) =>
      make("button", { type: "button", "aria-pressed": String(one === chosen), onclick: () => {
        buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(choices[i] === one)));
        act(one);
      } }, String(one)),
    );
    return make("div", { class: "widget-choice", role: "group", "aria-label": label }, make("span", {}, label), ...buttons);
  }

  const tools = { engine: cnn(), make, slider, choice, still: matchMedia("(prefers-reduced-motion: reduce)").matches };

  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      const place = /** @type {HTMLElement} */ (target);
      /** @type {any} */ (window).cnnhwWidgets[place.dataset.widget](place, tools);
      place.dataset.started = "";
    }
  }, { rootMargin: "200px" });
  document.querySelectorAll(".widget-place").forEach((place) => seen.observe(place));
})();
