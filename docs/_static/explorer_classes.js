/* What the networks say of the photo: a bar for each class, and what it was before a part was covered. */
"use strict";

/**
 * @param {HTMLTableElement} table
 * @param {string[]} classes
 * @param {Partial<Record<"trained" | "untrained", {now: number[], before: number[] | null}>>} found probabilities
 */
function explorerClasses(table, classes, found) {
  const make = (name, properties) => Object.assign(document.createElement(name), properties);
  const percent = (share) => `${Math.round(100 * share)} %`;
  ["trained", "untrained"].forEach((version, i) => { table.tHead.rows[0].cells[i + 1].hidden = !(version in found); });
  const [body] = table.tBodies;
  body.replaceChildren();
  classes.forEach((name, k) => {
    const line = body.insertRow();
    line.append(make("th", { scope: "row", textContent: name }));
    for (const { now, before } of Object.values(found)) {
      const place = line.insertCell();
      place.style.setProperty("--now", `${100 * now[k]}%`);
      place.dataset.probability = String(now[k]);
      if (now[k] === Math.max(...now)) place.className = "explorer-top";
      place.append(make("span", { textContent: percent(now[k]) }));
      if (before) {
        place.style.setProperty("--before", `${100 * before[k]}%`);
        place.append(make("small", { textContent: ` was ${percent(before[k])}` }));
      }
    }
  });
}
