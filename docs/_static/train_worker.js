/* What the worker of "Train it here" does: it trains, a tenth of a second at a time, and tells the page what came of it.

   A function of its own, as the page hands its text to workers: it may use nothing but what it is given. */
"use strict";

function trainWorker(engine, loop, tools, scope) {
  const SIDE = 32;
  const SLICE = 100; // milliseconds of training between two looks at what the page asks for
  const EVERY = 300; // milliseconds between two reports
  let data = null, trainer = null, photo = null; // photo: the one whose maps are shown, three bytes a pixel
  let playing = false, number = 0, told = 0, reported = 0, clock = { seen: 0, time: 0 };

  const say = (kind, more) => scope.postMessage({ kind, ...more });

  /** Three bytes of every four. */
  const opaque = (pixels) => pixels.filter((_, i) => i % 4 < 3);

  /** Unpack scenes: one picture a split, so many scenes across, each level divided by `levels`. */
  async function unpack({ classes, levels, across, splits }) {
    const read = async ({ count, picture }) => {
      const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
      const sheet = await tools.read(new Blob([bytes], { type: "image/webp" }));
      const images = new Uint8Array(3 * SIDE * SIDE * count);
      for (let n = 0, to = 0; n < count; n++) {
        for (let cell = 0; cell < SIDE * SIDE; cell++) {
          const row = Math.floor(n / across) * SIDE + Math.floor(cell / SIDE);
          const from = 4 * (row * sheet.width + (n % across) * SIDE + (cell % SIDE));
          for (let c = 0; c < 3; c++, to++) images[to] = levels * sheet.data[from + c];
        }
      }
      return { images, labels: Array.from({ length: count }, (_, n) => n % classes.length) };
    };
    const [training, held] = await Promise.all(splits.map(read));
    return { classes, training, held };
  }

  /** Read the reader's own pictures: the largest square of each, as small as scenes are. */
  async function read(files) {
    const squares = [];
    for (const file of files) {
      try {
        squares.push(opaque(tools.resize(tools.crop(await tools.read(file)), SIDE)));
      } catch {
        // no picture, or none that this browser reads: the page counts what came back
      }
    }
    return squares;
  }

  /** Tell what is new of the run, and how the network sees the photo. */
  function report() {
    if (!trainer) return;
    const { program, losses, confusion, points, state, step, steps, seen } = trainer.run;
    const now = performance.now();
    const speed = clock.time ? (1000 * (seen - clock.seen)) / clock.time : 0;
    const [filters] = program.weights;
    const look = photo && lookAt(program);
    const fresh = losses.slice(told);
    say("report", { number, losses: fresh, confusion, points, state, step, steps, seen, speed, filters, ...look });
    told = losses.length;
    reported = now;
  }

  function lookAt(program) {
    const values = engine.forward(program, loop.tensorOf({ images: photo, labels: [0] }, [0]));
    return { maps: values[1], chances: engine.probabilities(values.at(-1))[0] };
  }

  function play() {
    if (!playing) return;
    const start = performance.now();
    const { run, advance } = trainer;
    if (clock.time > 4000) clock = { seen: run.seen, time: 0 }; // the speed is that of the last seconds
    while (run.state === "ready" || run.state === "running") {
      advance();
      if (performance.now() - start > SLICE) break;
    }
    clock.time += performance.now() - start;
    playing = run.state === "running";
    if (!playing || performance.now() - reported > EVERY) report();
    if (playing) setTimeout(play);
  }

  const ACTS = {
    scenes: async ({ packed }) => say("data", { data: await unpack(packed) }),
    read: async ({ files, about }) => say("squares", { about, squares: await read(files) }),
    data: (given) => { data = given.data; },
    look: (given) => {
      photo = given.photo;
      if (!playing) report();
    },
    begin: (given) => {
      playing = false;
      number = given.number;
      trainer = loop.start(given.settings, data);
      [told, clock] = [0, { seen: 0, time: 0 }];
      report();
    },
    play: () => {
      if (playing || !trainer) return;
      playing = true;
      play();
    },
    pause: () => {
      playing = false;
      report();
    },
    step: () => {
      playing = false;
      trainer.advance();
      report();
    },
  };

  scope.onmessage = ({ data: message }) => ACTS[message.act](message);
}
