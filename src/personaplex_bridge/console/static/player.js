// A recording that plays: the waveforms of both sides, the marks of the call above them, and a
// position that others can follow and set.

import { colour } from "./charts.js";
import { clock, h, say } from "./dom.js";
import { peaksOf } from "./peaks.js";
import { makeWaveform } from "./waveform.js";

const SPEEDS = [1, 1.25, 1.5, 2];
const HEIGHT = 52;

export class Player {
  #waveform = null;
  #aborting = new AbortController();

  /** `marks` have at_s, kind and text. `onTime(seconds)` hears where it is. */
  constructor(url, duration, marks, onTime) {
    this.url = url;
    this.duration = duration;
    this.onTime = onTime;
    this.audio = h("audio", { preload: "metadata", src: url });
    this.play = h("button", { class: "button primary play", type: "button", onclick: () => this.#toggle() }, "Play");
    this.time = h("span", { class: "player-time" });
    this.position = h("input", { type: "range", class: "visually-hidden", min: 0, max: duration, step: 1, value: 0, "aria-label": "Position, in seconds",
      oninput: () => this.seek(Number(this.position.value), false) });
    this.speed = h("select", { "aria-label": "Speed", onchange: () => { this.audio.playbackRate = Number(this.speed.value); } },
      SPEEDS.map((speed) => h("option", { value: speed }, `${speed}×`)));
    this.wave = h("div", { class: "wave" });
    this.told = h("p", { class: "muted small", role: "status" }, "Drawing the waveform…");
    this.marks = h("div", { class: "marks" }, marks.map((mark) => h("button", { type: "button", class: `mark ${mark.kind}`,
      title: `${clock(mark.at_s)} ${mark.text}`, "aria-label": `Go to ${clock(mark.at_s)}: ${mark.text}`, "data-at": mark.at_s, onclick: () => this.seek(mark.at_s) })));
    this.root = h("div", { class: "player", role: "group", "aria-label": "Recording" },
      h("div", { class: "player-bar" }, this.play, this.time, this.speed,
        h("a", { class: "button", href: url, download: "" }, "Download")),
      h("div", { class: "sides" },
        h("div", { class: "side-names small", "aria-hidden": "true" }, h("span", { class: "caller" }, "Caller"), h("span", { class: "model" }, "Model")),
        h("div", { class: "wave-frame" }, this.marks, this.position, this.wave)),
      this.told, this.audio);
    this.#listen();
    this.#place();
    this.#show();
  }

  /** Draws the waveform; call it once the player is in the page. */
  async draw() {
    try {
      const found = await peaksOf(this.url, (part) => say(this.told, `Drawing the waveform… ${Math.round(part * 100)} %`), this.#aborting.signal);
      this.duration = found.duration;
      this.position.max = found.duration;
      const side = (name) => ({ waveColor: colour(name), progressColor: colour(name), height: HEIGHT });
      this.#waveform = makeWaveform(this.wave, {
        media: this.audio, peaks: found.peaks, duration: found.duration, normalize: true, splitChannels: [side("caller"), side("model")],
        cursorColor: colour("text"), cursorWidth: 2, barWidth: 2, barGap: 1, barRadius: 1, dragToSeek: true, hideScrollbar: true,
      });
      this.#place();
      this.#show();
      say(this.told, "");
      this.root.dataset.drawn = "yes";
    } catch (error) {
      if (!this.#aborting.signal.aborted) say(this.told, `The waveform can’t be drawn here: ${error.message}.`);
    }
  }

  /** Goes to a second of the call, and plays on from there if it does, or if `play` says so. */
  seek(at, play = true) {
    this.audio.currentTime = Math.min(at, Math.max(0, this.duration - 0.05));
    this.#show();
    if (play && this.audio.paused) this.#toggle();
  }

  close() {
    this.#aborting.abort();
    this.audio.pause();
    this.#waveform?.destroy();
  }

  #listen() {
    this.audio.addEventListener("play", () => this.#follow());
    for (const name of ["play", "pause", "ended", "seeked", "timeupdate"]) this.audio.addEventListener(name, () => this.#show());
    this.audio.addEventListener("error", () => say(this.told, "The recording can’t be played: it is gone, or this browser does not know Ogg Opus."));
    this.follow = () => this.#waveform?.setOptions({
      cursorColor: colour("text"), splitChannels: ["caller", "model"].map((name) => ({ waveColor: colour(name), progressColor: colour(name), height: HEIGHT })) });
    addEventListener("themechange", this.follow, { signal: this.#aborting.signal });
  }

  /** While it plays the time is told at each frame: four times a second is too late for words. */
  #follow() {
    if (this.audio.paused) return;
    this.#show();
    requestAnimationFrame(() => this.#follow());
  }

  async #toggle() {
    if (!this.audio.paused) return this.audio.pause();
    try {
      await this.audio.play();
    } catch {
      // the error event has told
    }
  }

  #show() {
    const at = this.audio.currentTime;
    say(this.play, this.audio.paused ? "Play" : "Pause");
    say(this.time, `${clock(at)} / ${clock(this.duration)}`);
    if (document.activeElement !== this.position) this.position.value = at;
    this.onTime(at);
  }

  #place() {
    for (const mark of this.marks.children) mark.style.left = `${(100 * Number(mark.dataset.at)) / Math.max(this.duration, 0.1)}%`;
  }
}
