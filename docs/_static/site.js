/* What pages do on their own: figures that scroll can be reached by keyboard, cards open, and paper is white. */
"use strict";

(() => {
  const root = document.documentElement;

  /** @type {(selector: string) => any[]} */
  const all = (selector) => [...document.querySelectorAll(selector)];

  // wide figures scroll on a phone; only those that do are stops for the Tab key
  function markScrolling() {
    for (const frame of all(".sheet-frame, .diagram")) {
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

  /** Opens a card where what it belongs to is pointed at, or reached by keyboard. @type {(mark: any, card: any) => any} */
  function opens(mark, card) {
    let waiting, pinned = false;
    const soon = (act, milliseconds) => {
      clearTimeout(waiting);
      waiting = setTimeout(act, milliseconds);
    };
    const show = () => card.matches(":popover-open") || card.showPopover({ source: mark });
    const hide = () => pinned || card.contains(document.activeElement) || card.hidePopover();
    const leave = ({ relatedTarget: to }) => {
      if (to ? to !== mark && !card.contains(to) : !pinned && !card.matches(":hover")) card.hidePopover();
    };
    const pin = () => {
      clearTimeout(waiting);
      pinned = true;
    };
    mark.addEventListener("pointerenter", ({ pointerType }) => pointerType === "mouse" && soon(show, 150));
    card.addEventListener("pointerenter", () => clearTimeout(waiting));
    for (const part of [mark, card]) {
      part.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && soon(hide, 250));
      part.addEventListener("focusout", leave);
    }
    mark.addEventListener("focus", ({ relatedTarget }) => {
      if (mark.matches(":focus-visible") && !card.contains(relatedTarget)) show();
    });
    card.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape") return;
      mark.focus();
      card.hidePopover();
    });
    card.addEventListener("toggle", ({ newState }) => {
      if (newState === "closed") pinned = false;
    });
    return { show, pin };
  }

  // a click opens the card of a mark without this; a term is a link, whose card a first tap opens
  for (const mark of all("button[popovertarget^=said-]")) {
    if (mark.popoverTargetElement) mark.addEventListener("click", opens(mark, mark.popoverTargetElement).pin);
  }
  for (const [number, link] of all("a.term-link").entries()) {
    const card = link.nextElementSibling;
    if (!card?.matches(".term-card") || !card.showPopover) continue;
    card.id = `term-card-${number}`;
    link.setAttribute("aria-describedby", card.id);
    const { show, pin } = opens(link, card);
    let shown = false; // a second tap closes the card before it becomes a click
    link.addEventListener("pointerdown", () => {
      shown = card.matches(":popover-open");
    });
    link.addEventListener("click", (event) => {
      if (event.pointerType !== "touch" || shown) return;
      event.preventDefault();
      pin();
      show();
    });
  }

  // a chapter can be printed without its code
  const end = document.querySelector(".sphx-glr-footer-example");
  if (end) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "print-text";
    button.textContent = "Print without code";
    button.addEventListener("click", () => {
      root.classList.add("without-code");
      print();
    });
    addEventListener("afterprint", () => root.classList.remove("without-code"));
    end.append(button);
  }

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
