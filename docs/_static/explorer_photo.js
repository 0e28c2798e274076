/* The reader's own photo: chosen, dropped, pasted, or taken by the camera. It is read here and sent nowhere. */
"use strict";

/**
 * @param {HTMLElement} figure
 * @param {(file: Blob) => void} take is given each photo
 * @param {(message: string) => void} say is told what went wrong
 */
function explorerPhoto(figure, take, say) {
  const find = (name) => figure.querySelector(name);
  const [chosen, captured] = [find("#explorer-file"), find("#explorer-capture")];
  const [booth, video] = [find(".explorer-booth"), find(".explorer-booth video")];

  /** @param {Iterable<File> | null | undefined} files of which the first picture is taken */
  function first(files) {
    const all = [...(files ?? [])];
    const picture = all.find(({ type }) => type.startsWith("image/"));
    if (picture) take(picture);
    else if (all.length) say(`${all[0].name} is not a picture that this browser can read.`);
    return Boolean(picture);
  }

  for (const input of [chosen, captured]) {
    input.addEventListener("change", () => {
      first(input.files);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  find("#explorer-choose").addEventListener("click", () => chosen.click());

  // anywhere on the page, or a photo that misses the figure would take its place
  for (const name of ["dragover", "drop"]) {
    addEventListener(name, (/** @type {DragEvent} */ event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      figure.classList.toggle("explorer-over", name === "dragover");
      if (name === "drop") first(event.dataTransfer.files);
    });
  }
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || figure.classList.remove("explorer-over"));
  addEventListener("paste", ({ clipboardData }) => first(clipboardData?.files));

  function close() {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    booth.hidden = true;
    find("#explorer-camera").focus();
  }

  find("#explorer-camera").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      await video.play();
    } catch {
      captured.click(); // phones then ask for a photo, other machines for a file
      return;
    }
    booth.hidden = false;
    find("#explorer-shoot").focus();
  });
  find("#explorer-shoot").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((file) => file && take(file), "image/png");
    close();
  });
  find("#explorer-leave").addEventListener("click", close);
}
