// A waveform of wavesurfer's, through our own adapter.
async () => {
  const { makeWaveform } = await import("/console/static/waveform.js");
  const peaks = [Float32Array.from({ length: 100 }, (_, at) => Math.sin(at))];
  const parent = document.createElement("div");
  document.body.append(parent);
  const waveform = makeWaveform(parent, { height: 80, waveColor: "red", peaks, duration: 10 });
  await new Promise((done) => waveform.once("ready", done));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const shadow = parent.firstElementChild.firstElementChild.shadowRoot;
  return {
    styles: shadow.querySelectorAll("style").length,
    cursor: getComputedStyle(shadow.querySelector(".cursor")).position,
    canvases: [...shadow.querySelectorAll("canvas")].filter(({ width, height }) => width && height).length,
  };
}
