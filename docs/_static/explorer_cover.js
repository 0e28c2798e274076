/* The grey square that covers a part of the photo: dragged, or moved by arrow keys. */
"use strict";

/**
 * @param {HTMLElement} figure
 * @param {{size: () => number, move: (event: KeyboardEvent) => number[] | undefined, changed: () => void}} page
 *   the side of the photo in pixels, what a key means, and what to do when the square is another
 */
function explorerCover(figure, { size, move, changed }) {
  const find = (name) => figure.querySelector(name);
  const [element, button] = [find(".explorer-square"), find("#explorer-cover")];
  /** @type {Square | null} */
  let covered = null;

  const clamp = (value, high) => Math.max(0, Math.min(high, Math.round(value)));

  /** @param {number} x @param {number} y @param {number} side @param {number} all pixels a side of the photo */
  function put(x, y, side, all = size()) {
    covered = { size: all, side, x: clamp(x, all - side), y: clamp(y, all - side) };
    draw();
  }

  function draw() {
    button.setAttribute("aria-pressed", String(Boolean(covered)));
    find(".explorer-sides").hidden = element.hidden = !covered;
    if (!covered) return;
    const { x, y, side } = covered;
    const share = (value) => `${(100 * value) / covered.size}%`;
    Object.assign(element.style, { left: share(x), top: share(y), width: share(side), height: share(side) });
    element.setAttribute("aria-label", `Grey square of ${side} pixels, at row ${y}, column ${x}; arrow keys move it`);
  }

  /** Cover a square whose side is a share of the photo's, about the same middle. */
  function cover(share) {
    const side = Math.round(share * size());
    const { x, y, side: before } = covered ?? { x: size() / 2, y: size() / 2, side: 0 };
    put(x + (before - side) / 2, y + (before - side) / 2, side);
    changed();
  }

  function clear() {
    covered = null;
    draw();
  }

  function shift(x, y) {
    put(x, y, covered.side);
    changed();
  }

  button.addEventListener("click", () => {
    if (covered) {
      clear();
      return changed();
    }
    cover(Number(find("input[name=explorer-side]:checked").value));
    element.focus();
  });
  find(".explorer-sides").addEventListener("change", ({ target }) => cover(Number(target.value)));
  element.addEventListener("keydown", (event) => {
    const by = move(event);
    if (!by) return;
    event.preventDefault();
    shift(covered.x + by[0], covered.y + by[1]);
  });
  element.addEventListener("pointerdown", (down) => {
    const { x, y } = covered;
    const pixel = element.parentElement.clientWidth / covered.size;
    element.setPointerCapture(down.pointerId);
    element.onpointermove = ({ clientX, clientY }) =>
      shift(x + (clientX - down.clientX) / pixel, y + (clientY - down.clientY) / pixel);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, () => { element.onpointermove = null; });
  }

  return {
    clear,
    /** @param {number} all @returns {Square | null} the square, of a photo of so many pixels a side */
    at(all) {
      if (covered && covered.size !== all) {
        const to = (value) => (value * all) / covered.size;
        put(to(covered.x), to(covered.y), Math.max(1, Math.round(to(covered.side))), all);
      }
      return covered;
    },
  };
}
