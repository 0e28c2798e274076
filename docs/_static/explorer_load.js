/* What the explorer loads when it is asked for: networks and photos, which are scripts of this site; and the worker. */
/* global cnn, explorerWorker, photoTools */
"use strict";

/** @param {string} base leads to the folder with the scripts */
function explorerLoad(base) {
  /** Start the worker; return a function that asks it: the name of what it is to do, then what that takes. */
  function startWorker() {
    const text =
      `const work = (${explorerWorker})((${cnn})(), (${photoTools})());\n` +
      "onmessage = async ({ data: [id, name, ...given] }) => {\n" +
      "  try { postMessage([id, '', await work[name](...given)]); }\n" +
      "  catch (error) { postMessage([id, error.message]); }\n" +
      "};";
    const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    const waiting = new Map();
    let count = 0;
    worker.onmessage = ({ data: [id, error, result] }) => {
      const [resolve, reject] = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(result);
    };
    return (name, ...given) =>
      new Promise((resolve, reject) => {
        waiting.set(++count, [resolve, reject]);
        worker.postMessage([count, name, ...given]);
      });
  }

  const ask = startWorker();
  const loading = new Map();

  /** The promise of a key: made once, and again after a failure. */
  function once(key, make) {
    if (!loading.has(key)) {
      const promise = make();
      promise.catch(() => loading.delete(key));
      loading.set(key, promise);
    }
    return loading.get(key);
  }

  /** What a script enters under a key: unlike data, scripts are read by pages that were opened from a folder. */
  const script = (file, kind, key) =>
    once(file, () => new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = base + file;
      element.onload = () => resolve(window[kind][key]);
      element.onerror = () => reject(new Error(`A file of this figure cannot be read: ${base}${file}`));
      document.head.append(element);
    }));

  return {
    ask,

    /** @param {string} key of a network that the worker is to know @returns {Promise<Layer[]>} its layers */
    network: (key) =>
      once(`worker ${key}`, async () => {
        const { layers, program } = await script(`${key}.js`, "cnnhwNetworks", key);
        await ask("load", key, program);
        return layers;
      }),

    /** @param {string | Blob} photo name or file @param {number} size @returns {Promise<Uint8ClampedArray>} pixels */
    async photo(photo, size) {
      if (photo instanceof Blob) return ask("photo", photo, size);
      const text = await script(`${photo}-photo.js`, "cnnhwPhotos", photo);
      return ask("photo", new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))]), size);
    },
  };
}
