// A waveform that plays (wavesurfer.js) under our content security policy.
//
// wavesurfer styles its shadow tree by a <style> element, which the policy refuses. It counts only
// once it stands in the document: before that, its rules become a style sheet made by a script,
// which is allowed.

import WaveSurfer from "/vendor/wavesurfer/wavesurfer.esm.js";

// Make one inside `parent`, an element. `options` are wavesurfer's; `container` is ours.
export function makeWaveform(parent, options) {
  const container = document.createElement("div");
  const waveform = WaveSurfer.create({ ...options, container });
  adoptStyles(container.firstElementChild.shadowRoot);
  parent.append(container);
  return waveform;
}

function adoptStyles(shadow) {
  for (const style of shadow.querySelectorAll("style")) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style.textContent);
    shadow.adoptedStyleSheets.push(sheet);
    style.remove();
  }
}
