/* The challenges of "Train it here": whether runs meet them, and why it happened. */
"use strict";

/**
 * A run as the page knows it.
 * @typedef {{number?: number, settings: Settings, classes: number, losses: number[], points: Point[], state: string}} Run
 * @typedef {{name: string, asks: string, hint: string, met: (runs: Run[]) => boolean, why: string}} Challenge
 */

const trainChallenges = (() => {
  const last = (run) => run.points.at(-1);

  /** Whether a run names its training photos and not those held out. */
  const overfit = ({ points }) =>
    points.some(({ accuracy, heldAccuracy }) => accuracy > 0.95 && accuracy - heldAccuracy >= 0.2);

  /** Whether the loss of a batch was three times that of a guess, or no number any more. */
  const diverged = ({ losses, classes, state }) =>
    state === "diverged" || losses.some((loss) => loss > 3 * Math.log(classes));

  /** Names of the settings in which two runs differ. */
  const differences = (one, other) =>
    Object.keys(one.settings).filter((name) => one.settings[name] !== other.settings[name]);

  /** Whether two of the runs, in this order, meet a condition. */
  const pair = (runs, condition) => runs.some((one) => runs.some((other) => one !== other && condition(one, other)));

  /** What is known of a run after so many photos. */
  const after = (run, seen) => run.points.filter((point) => point.seen <= seen).at(-1);

  /** Whether the second of two deep networks, which has shortcuts, names many more after as many photos. */
  function rescued(plain, short) {
    const { stages, blocks, shortcuts } = plain.settings;
    const deep = stages * (1 + 2 * blocks) >= 15;
    if (!deep || shortcuts || differences(plain, short).join() !== "shortcuts") return false;
    const seen = Math.min(last(plain).seen, last(short).seen);
    return seen >= 1000 && after(short, seen).heldAccuracy - after(plain, seen).heldAccuracy >= 0.2;
  }

  /** Whether the second run has the network of the first, which overfits, and names more photos that it never saw. */
  function mended(worse, better) {
    const mends = ["photos", "mirror", "shift", "epochs"];
    if (!overfit(worse) || !differences(worse, better).every((name) => mends.includes(name))) return false;
    return last(better).heldAccuracy - last(worse).heldAccuracy >= 0.1;
  }

  /** @type {Challenge[]} */
  return [
    {
      name: "overfit",
      asks: "Make it overfit: training accuracy above 95 %, held-out accuracy at least 20 points lower.",
      hint: "What could a network do with few photos, if it saw them often enough and always the same way?",
      met: (runs) => runs.some(overfit),
      why: "The network has memorised its few training photos, down to what is chance in them. Nothing in its loss told it "
        + "to learn what all birds share.",
    },
    {
      name: "mend",
      asks: "Undo it: with the same network, a held-out accuracy that is 10 points higher.",
      hint: "Leave the network and the rate as they are. Which knobs change what it is shown?",
      met: (runs) => pair(runs, mended),
      why: "To memorise more photos, or photos that look different each time, is hard; what they share is the easier way "
        + "to a low loss. More data, real or made by augmentation, is the first remedy.",
    },
    {
      name: "diverge",
      asks: "Make it diverge: a training loss three times that of a guess.",
      hint: "Each step goes downhill by the learning rate. What if it is longer than the valley is wide? "
        + "Batch norm hides it.",
      met: (runs) => runs.some(diverged),
      why: "The steps were too long: each overshot the valley and ended where the slope is steeper, so the next was longer "
        + "still. A network whose ReLUs all died on the way gives the same answer for every photo afterwards.",
    },
    {
      name: "rescue",
      asks: "Rescue a deep one: 15 convolutions or more that hardly learn, then the same with shortcuts, 20 points better "
        + "on held-out photos after as many photos (1,000 at least).",
      hint: "Three stages with two pairs after each; no batch norm, as it is a rescue of its own; Adam at a steady 0.003; "
        + "batches of 8, for more steps. Switch on the comparison and give B the shortcuts.",
      met: (runs) => pair(runs, rescued),
      why: "On its way back through many layers the gradient is multiplied by each of them, and little of use arrives. A "
        + "shortcut passes it on wherever the sum is positive, so the first layers learn from the first step on.",
    },
  ];
})();
