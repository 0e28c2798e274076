/* What pages do on their own: figures that scroll can be reached by keyboard, and paper is white. */
"use strict";

(() => {
  const root = document.documentElement;

  // wide figures scroll on a phone; only those that do are stops for the Tab key
  function markScrolling() {
    for (const frame of document.querySelectorAll(".sheet-frame, .diagram")) {
      if (frame.scrollWidth > frame.clientWidth + 1) {
        frame.tabIndex = 0;
        frame.setAttribute("role", "group");
        frame.setAttribute("aria-label", "Figure, scrolls sideways");
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) frame.removeAttribute(name);
      }
    }
  }
  addEventListener("load", markScrolling);
  addEventListener("resize", markScrolling);

  // a page in the dark theme is printed in the light one
  let shown = null;
  addEventListener("beforeprint", () => {
    shown ??= root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = shown ?? root.dataset.theme;
    shown = null;
  });
})();
