/* The training of "Train it here": batches, augmentation, rates, steps, evaluation: the package's loop in small.

   A function of its own, as the engine is, so that a page can hand it to a worker. */
"use strict";

/**
 * @typedef {{images: Uint8Array, labels: number[]}} Photos 32x32 pixels, three bytes a pixel
 * @typedef {{classes: string[], training: Photos, held: Photos}} Data
 * @typedef {Object} Point what an evaluation found
 * @property {number} step
 * @property {number} seen photos trained on until then
 * @property {number} loss mean over training photos, in nats
 * @property {number} accuracy share of training photos that are named rightly
 * @property {number} heldLoss
 * @property {number} heldAccuracy
 */

function trainLoop(engine, net) {
  const SIDE = 32;
  const CELLS = SIDE * SIDE;
  const AT_ONCE = 50; // photos of an evaluation pass

  /**
   * Photos as the engine takes them, numbers in 0..1, channel by channel; mirrored and moved where `change` says so.
   * @param {Photos} photos
   * @param {number[]} chosen
   * @param {() => {mirror: boolean, right: number, down: number}} [change]
   * @returns {Tensor}
   */
  function tensorOf(photos, chosen, change) {
    const out = engine.tensor([chosen.length, 3, SIDE, SIDE]);
    const within = (i) => Math.min(SIDE - 1, Math.max(0, i)); // beyond the edge, the edge goes on
    chosen.forEach((photo, n) => {
      const { mirror, right, down } = change ? change() : { mirror: false, right: 0, down: 0 };
      for (let row = 0; row < SIDE; row++) {
        for (let column = 0; column < SIDE; column++) {
          const x = within((mirror ? SIDE - 1 - column : column) - right);
          const from = 3 * (photo * CELLS + within(row - down) * SIDE + x);
          const to = 3 * n * CELLS + row * SIDE + column;
          for (let c = 0; c < 3; c++) out.data[to + c * CELLS] = 4 * (photos.images[from + c] / 255 - 0.5);
        }
      }
    });
    return out;
  }

  const numbers = (many) => Array.from({ length: many }, (_, i) => i);

  /** Put a list in a random order (Fisher and Yates). */
  function shuffle(list, roll) {
    for (let i = list.length - 1; i > 0; i--) {
      const j = Math.floor(roll() * (i + 1));
      [list[i], list[j]] = [list[j], list[i]];
    }
    return list;
  }

  /** The learning rate of a step: constant, or up for a quarter of the run and then down to nothing. */
  function rateAt(step, steps, { rate, schedule }) {
    if (schedule === "constant") return rate;
    const done = (step + 0.5) / steps;
    return rate * (done < 0.25 ? done / 0.25 : (1 - done) / 0.75);
  }

  /** Mean loss, accuracy and confusion (true class by row) over photos. */
  function evaluate(program, photos, chosen, classes) {
    const confusion = Array.from({ length: classes }, () => Array(classes).fill(0));
    let [loss, right] = [0, 0];
    for (let start = 0; start < chosen.length; start += AT_ONCE) {
      const part = chosen.slice(start, start + AT_ONCE);
      const labels = part.map((i) => photos.labels[i]);
      const logits = engine.forward(program, tensorOf(photos, part)).at(-1);
      loss += (engine.crossEntropy(logits, labels).loss * part.length) / chosen.length;
      labels.forEach((label, n) => {
        const row = logits.data.subarray(n * classes, (n + 1) * classes);
        const guess = row.indexOf(row.reduce((a, b) => Math.max(a, b)));
        if (guess < 0) return; // not a number
        confusion[label][guess] += 1;
        if (guess === label) right += 1 / chosen.length;
      });
    }
    return { loss, accuracy: right, confusion };
  }

  /**
   * A run, that goes on by a step whenever it is asked to. All its choices follow from its settings.
   * @param {Settings} settings
   * @param {Data} data
   */
  function start(settings, data) {
    const { batch, epochs, mirror, shift, seed, optimiser } = settings;
    const { training, held, classes } = data;
    const program = net.build(settings, classes.length);
    const roll = net.dice(seed + 1);
    const own = numbers(Math.min(settings.photos, training.labels.length));
    const looked = own.slice(0, 100); // enough to know the training accuracy
    const perEpoch = Math.ceil(own.length / batch);
    const steps = perEpoch * epochs;
    const every = Math.ceil(400 / batch); // an evaluation costs as much as a hundred photos trained on
    const kept = [];
    const moments = program.steps.flatMap(({ op, weights }) => (op === "batch_norm" ? weights.slice(2) : []));
    const frozen = new Set(moments); // mean and variance of batch norm are kept, not learnt
    const between = (most) => Math.floor(roll() * (2 * most + 1)) - most;
    const change = () => ({ mirror: mirror && roll() < 0.5, right: between(shift), down: between(shift) });
    /** @type {{settings: Settings, program: Program, steps: number, step: number, seen: number, losses: number[],
     *   points: Point[], confusion: number[][], state: string}} */
    const run = {
      settings, program, steps, step: 0, seen: 0, losses: [], points: [], confusion: [], state: "ready",
    };
    let order = [];
    look();

    function look() {
      const [seen, unseen] = [[training, looked], [held, numbers(held.labels.length)]].map(
        ([photos, chosen]) => evaluate(program, photos, chosen, classes.length));
      run.confusion = unseen.confusion;
      run.points.push({
        step: run.step, seen: run.seen, loss: seen.loss, accuracy: seen.accuracy,
        heldLoss: unseen.loss, heldAccuracy: unseen.accuracy,
      });
    }

    /** One step: a batch forwards, its loss, backwards, and the weights a little downhill. */
    function advance() {
      if (run.state === "done" || run.state === "diverged") return;
      if (!order.length) order = shuffle([...own], roll);
      const chosen = order.splice(0, batch);
      const values = engine.forward(program, tensorOf(training, chosen, change), true);
      const { loss, slope } = engine.crossEntropy(values.at(-1), chosen.map((i) => training.labels[i]));
      const rate = rateAt(run.step, steps, settings);
      const slopes = engine.backward(program, values, slope).map((one, i) => (frozen.has(i) ? null : one));
      engine[optimiser](program.weights, slopes, kept, rate);
      run.step += 1;
      run.seen += chosen.length;
      run.losses.push(loss);
      run.state = !Number.isFinite(loss) ? "diverged" : run.step === steps ? "done" : "running";
      if (run.step % every === 0 || run.state !== "running") look();
    }

    return { run, advance };
  }

  return { start, tensorOf, evaluate, rateAt };
}
