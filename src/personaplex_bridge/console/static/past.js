// Calls past: search, and each opens to what is kept of it.

import { chips, clock, h, moment, say, seconds, transcript } from "./dom.js";
import { ask } from "./talk.js";

const OUTCOMES = {
  "hung-up": "caller hung up", "bridge-ended": "ended by the bridge", "model-failed": "model failed",
  "line-lost": "line lost", error: "error", lost: "lost with its bridge", "in-progress": "in progress",
};

export class PastPage {
  #asked = 0;

  constructor(root) {
    this.root = root;
  }

  show(bridge) {
    if (!bridge || this.built === bridge.has_history) return;
    this.built = bridge.has_history;
    if (!bridge.has_history) {
      this.root.replaceChildren(h("div", { class: "head" }, h("h2", {}, "Calls past")),
        h("div", { class: "card empty" }, h("h3", {}, "No history is kept"),
          h("p", {}, "The bridge forgets calls when they are over, but for the last 50 on the first page. To keep them, set ",
            h("code", {}, "HISTORY=on"), " or a ", h("code", {}, "DATABASE_URL"), " and start it again.")));
      return;
    }
    this.#build();
    this.#search();
  }

  #build() {
    const input = (name, label, properties = {}) =>
      h("div", { class: "field" }, h("label", { for: `past-${name}` }, label),
        h(properties.options ? "select" : "input", { id: `past-${name}`, name, autocomplete: "off", ...properties, options: undefined },
          ...(properties.options ?? []).map(([value, text]) => h("option", { value }, text))));
    this.form = h("form", { class: "card search", onsubmit: (event) => { event.preventDefault(); this.#search(); } },
      h("div", { class: "wide" }, input("text", "The model said", { type: "search", placeholder: "words, or \"words in a row\"" })),
      input("number", "Caller’s number", { type: "tel", placeholder: "+15550100" }),
      input("persona", "Persona"),
      input("outcome", "How it ended", { options: [["", "any"], ...Object.entries(OUTCOMES)] }),
      input("since", "From", { type: "date" }),
      input("until", "Until", { type: "date" }),
      input("min_duration_s", "At least, seconds", { type: "number", min: 0 }),
      input("sort", "First", { options: [["started", "newest"], ["duration", "longest"], ["delay", "slowest answers"]] }),
      h("div", { class: "actions" }, h("button", { class: "button primary" }, "Search"),
        h("button", { class: "button", type: "reset", onclick: () => setTimeout(() => this.#search()) }, "Clear")));
    this.told = h("p", { class: "muted", role: "status" });
    this.list = h("div", { class: "card list" });
    this.more = h("button", { class: "button", type: "button", hidden: true, onclick: () => this.#search(this.next) }, "More");
    this.root.replaceChildren(h("div", { class: "head" }, h("h2", {}, "Calls past")), this.form, this.told, this.list,
      h("div", { class: "actions" }, this.more));
  }

  async #search(after) {
    const wanted = Object.fromEntries([...new FormData(this.form)].filter(([, value]) => value));
    // Days are this browser's; the last one is meant whole.
    for (const [name, days] of [["since", 0], ["until", 1]]) {
      if (!wanted[name]) continue;
      const day = new Date(`${wanted[name]}T00:00`);
      day.setDate(day.getDate() + days);
      wanted[name] = day.toISOString();
    }
    if (wanted.min_duration_s) wanted.min_duration_s = Number(wanted.min_duration_s);
    if (after) wanted.after = after;
    const turn = ++this.#asked;
    say(this.told, "Searching…");
    try {
      const page = await ask("/api/history/search", wanted);
      if (turn !== this.#asked) return; // another search was quicker
      const titles = ["When", "Length", "Persona", "Caller", "How it ended"];
      if (!after) this.list.replaceChildren(h("div", { class: "row titles", "aria-hidden": "true" }, titles.map((title) => h("span", {}, title))));
      this.list.append(...page.calls.map(pastRow));
      this.next = page.next;
      this.more.hidden = !page.next;
      this.list.hidden = this.list.children.length < 2;
      say(this.told, this.list.hidden ? "No call fits. Ask for less, or wait for the first one." : "");
    } catch (error) {
      if (turn === this.#asked) say(this.told, error.message);
    }
  }
}

function pastRow(call) {
  const row = h("details", { ontoggle: () => row.open && !row.dataset.read && open(row, call.id) },
    h("summary", {}, h("span", {}, moment(new Date(call.started_at))), h("span", {}, clock(call.duration_s)),
      h("span", {}, call.persona), h("span", { class: "muted" }, call.caller || "unknown"),
      h("span", call.model_failed ? { class: "pill bad" } : {}, OUTCOMES[call.outcome] ?? call.outcome)),
    h("div", { class: "detail" }, h("p", { class: "muted" }, "Reading…")));
  return row;
}

async function open(row, id) {
  const detail = row.querySelector(".detail");
  try {
    const call = await ask(`/api/history/${encodeURIComponent(id)}`);
    row.dataset.read = "yes";
    detail.replaceChildren(
      chips([["turns", call.turns], ["answered after", seconds(call.turn_delay_s)], ["interruptions", call.barge_ins],
        ["model failures", call.failures], ["model ready", seconds(call.handshake_s)], ["gaps", call.gaps],
        ["reason", call.ended_reason || "–"], ["call", call.call_sid]]),
      transcript(call.transcript ?? []),
      h("details", {}, h("summary", {}, "Timeline"), h("pre", {}, (call.events ?? [])
        .map(({ at_s, kind, ...rest }) => `${clock(at_s).padStart(7)}  ${kind} ${Object.entries(rest).map(([name, value]) => `${name}=${value}`).join(" ")}`).join("\n") || "nothing is kept")),
      h("details", {}, h("summary", {}, "All figures"), h("pre", {}, JSON.stringify(call.figures ?? {}, null, 2))));
  } catch (error) {
    detail.replaceChildren(h("p", { class: "note bad" }, error.message));
  }
}
