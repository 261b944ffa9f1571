// A call past, opened: its recording, its timeline with what the model said, and its figures.

import { chips, clock, h, seconds } from "./dom.js";
import { turnsGraph } from "./graphs.js";
import { Player } from "./player.js";

export const OUTCOMES = {
  "hung-up": "caller hung up", "bridge-ended": "ended by the bridge", "model-failed": "model failed",
  "line-lost": "line lost", error: "error", lost: "lost with its bridge", "in-progress": "in progress",
};

/** What each kind of event is called, and what is told of it. */
const EVENTS = {
  start: () => "Call begins",
  "model-ready": () => "Model ready",
  "first-audio": () => "First sound of the model",
  turn: ({ delay_s }) => `Model answers, after ${seconds(delay_s)}`,
  "barge-in": ({ waiting_ms }) => `Caller interrupts, ${Math.round(waiting_ms)} ms left unheard`,
  failure: ({ reason, gone_s }) => `Model fails: ${reason}${gone_s === null ? "; none after it" : `; another after ${seconds(gone_s)}`}`,
  end: ({ by, reason }) => `Call ends, by the ${by}: ${reason}`,
};
/** Those that stand above the waveform. */
const MARKED = ["turn", "barge-in", "failure"];

const said = (event) => EVENTS[event.kind]?.(event) ?? event.kind;

/** The call as elements, and what to do when it is closed. `actions` are buttons. */
export function openCall(call, actions) {
  const events = call.events ?? [], phrases = call.transcript ?? [];
  let player = null;
  const timeline = new Timeline(events, phrases, call.has_recording ? (at) => player.seek(at) : null);
  if (call.has_recording) {
    const marks = events.filter((event) => MARKED.includes(event.kind)).map((event) => ({ ...event, text: said(event) }));
    player = new Player(`/api/history/${call.id}/recording`, call.duration_s, marks, (at) => timeline.follow(at));
  }
  const turns = events.filter((event) => event.kind === "turn");
  const graph = h("div", { class: "graph", role: "img", "aria-label": `How soon each of ${turns.length} turns was answered` });
  const elements = [
    chips([["turns", call.turns], ["answered after", seconds(call.turn_delay_s)], ["interruptions", call.barge_ins],
      ["model failures", call.failures], ["model ready", seconds(call.handshake_s)], ["gaps", call.gaps], ["keys pressed", call.keys],
      ["model server", call.model_server ?? "–"], ["ended", call.ended_reason || "–"], ["call", call.call_sid || "–"]]),
    player?.root ?? h("p", { class: "muted small" }, call.figures?.recording ? "Its recording is gone." : "It was not recorded."),
    timeline.root,
    turns.length > 1 ? h("div", {}, h("h3", {}, "Answered after"), graph) : null,
    h("details", {}, h("summary", {}, "All figures"), figures(call.figures ?? {})),
    h("div", { class: "actions" }, h("a", { class: "button", href: `#history/${call.id}` }, "Link to this call"), actions),
  ];
  return {
    elements: elements.filter(Boolean),
    shown() {
      player?.draw();
      if (graph.isConnected) turnsGraph(graph, turns, call.duration_s);
    },
    close: () => player?.close(),
  };
}

class Timeline {
  #timed = [];
  #current = [];

  /** `seek(seconds)` goes there; null if there is nothing to go to. */
  constructor(events, phrases, seek) {
    this.seek = seek;
    const lines = [...events.map((event) => [event.at_s, 0, this.#event(event)]), ...phrases.map((phrase) => [phrase.at_s, 1, this.#phrase(phrase)])];
    lines.sort(([a, first], [b, second]) => a - b || first - second);
    this.list = h("ol", { class: "timeline" }, lines.map(([, , line]) => line));
    this.#timed.sort((a, b) => a.at - b.at);
    this.root = h("div", { class: `transcript${seek ? " seekable" : ""}`, role: "region", tabIndex: 0, "aria-label": "Timeline and transcript" },
      lines.length ? this.list : h("p", { class: "muted" }, "Nothing is kept of what happened in it."),
      phrases.length ? null : h("p", { class: "muted small" }, "No words of the model’s are kept."));
    if (seek) this.list.addEventListener("click", ({ target }) => {
      const word = target.closest("[data-at]");
      if (word && getSelection().isCollapsed) seek(Number(word.dataset.at));
    });
  }

  /** Shows which line and word a moment belongs to. */
  follow(at) {
    const word = this.#timed.findLast((one) => one.at <= at + 0.05);
    const now = word && at > 0 ? [word.element, word.element.closest("li")] : [];
    for (const element of this.#current) if (!now.includes(element)) element.classList.remove("now");
    for (const element of now) element.classList.add("now");
    if (now.length && now[1] !== this.#current[1]) this.#reveal(now[1]);
    this.#current = now;
  }

  /** Scrolls the timeline, not the page, to a line. */
  #reveal(line) {
    const [inner, outer] = [line.getBoundingClientRect(), this.root.getBoundingClientRect()];
    if (inner.top < outer.top || inner.bottom > outer.bottom) this.root.scrollTop += inner.top - outer.top - outer.height / 3;
  }

  #event(event) {
    return h("li", { class: `event ${event.kind}` }, this.#time(event.at_s), h("span", {}, said(event)));
  }

  #phrase({ at_s, text, words_s: times = [] }) {
    const words = text.split(" ");
    const known = words.length === times.length;
    const parts = (known ? words : [text]).map((word, index) => {
      const at = known ? times[index] : at_s;
      const element = h("span", { class: "word", "data-at": at }, word);
      this.#timed.push({ at, element });
      return [index ? " " : "", element];
    });
    return h("li", { class: "said" }, this.#time(at_s), h("span", {}, parts.flat()));
  }

  #time(at) {
    if (!this.seek) return h("time", {}, clock(at));
    return h("button", { type: "button", class: "time-button", "data-at": at, "aria-label": `Play from ${clock(at)}` }, clock(at));
  }
}

/** Every figure, a line each; of what has parts, its parts. */
function figures(of) {
  const rows = Object.entries(of).flatMap(([name, value]) => (value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.entries(value).map(([part, one]) => [`${name}.${part}`, one]) : [[name, value]]));
  const shown = (value) => (Array.isArray(value) ? value.map(shown).join(", ") : typeof value === "number" ? String(Math.round(value * 1000) / 1000) : String(value ?? "–"));
  return h("dl", { class: "all-figures" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, shown(value) || "–"))));
}
