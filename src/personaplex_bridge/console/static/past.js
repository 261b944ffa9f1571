// Calls past: search, export, delete; and each opens to what is kept of it.

import { sure, toast } from "./dialogs.js";
import { clock, h, moment, say, who } from "./dom.js";
import { openCall, OUTCOMES } from "./pastcall.js";
import { ask, Refused, save } from "./talk.js";

const TITLES = ["When", "Length", "Persona", "Caller", "How it ended"];
const HIDDEN = "***";
const ID = /^[0-7][0-9a-f]{15}$/;

export class PastPage {
  #asked = 0;

  constructor(root) {
    this.root = root;
  }

  /** `id` is of the one call that is to be open. `comes` says whether the page was another before. */
  show(bridge, id, comes) {
    if (!bridge) return;
    const isRead = this.root.querySelector("details[open]") !== null;
    if (comes && this.built && this.built === bridge.has_history && !isRead) this.#search(); // there may be new ones
    if (this.built !== bridge.has_history) {
      this.built = bridge.has_history;
      if (!this.built) return this.#tellNone();
      this.#build();
      this.#search();
    }
    if (this.built && this.one !== id) this.#showOne(id);
  }

  #tellNone() {
    this.root.replaceChildren(h("div", { class: "head" }, h("h2", {}, "Calls past")),
      h("div", { class: "card empty" }, h("h3", {}, "No history is kept"),
        h("p", {}, "The bridge forgets calls when they are over, but for the last 50 on the first page. To keep them, set ",
          h("code", {}, "HISTORY=on"), " or a ", h("code", {}, "DATABASE_URL"), " and start it again.")));
  }

  #build() {
    const input = (name, label, properties = {}) =>
      h("div", { class: "field" }, h("label", { for: `past-${name}` }, label),
        h(properties.options ? "select" : "input", { id: `past-${name}`, name, autocomplete: "off", ...properties, options: undefined },
          ...(properties.options ?? []).map(([value, text]) => h("option", { value }, text))));
    const button = (text, onclick, kind = "") => h("button", { class: `button ${kind}`, type: "button", onclick }, text);
    this.form = h("form", { class: "card search", role: "search", onsubmit: (event) => { event.preventDefault(); this.#search(); } },
      h("div", { class: "wide" }, input("text", "The model said", { type: "search", maxLength: 200, placeholder: "words, or \"words in a row\"" })),
      input("number", "Caller’s number", { type: "tel", placeholder: "+15550100" }),
      input("persona", "Persona"), h("datalist", { id: "past-personas" }),
      input("outcome", "How it ended", { options: [["", "any way"], ...Object.entries(OUTCOMES)] }),
      input("model_failed", "Model", { options: [["", "failed or not"], ["true", "failed"], ["false", "did not fail"]] }),
      input("since", "From", { type: "date" }),
      input("until", "Until", { type: "date" }),
      input("min_duration_s", "At least, seconds", { type: "number", min: 0, step: "any" }),
      input("sort", "First", { options: [["started", "newest"], ["duration", "longest"], ["delay", "slowest answers"]] }),
      h("div", { class: "actions" }, h("button", { class: "button primary" }, "Search"),
        h("button", { class: "button", type: "reset", onclick: () => setTimeout(() => this.#search()) }, "Clear")));
    this.#offerPersonas();
    this.told = h("p", { class: "muted", role: "status" });
    this.list = h("div", { class: "card list" });
    this.more = button("More", () => this.#search(this.next));
    this.more.hidden = true;
    this.single = h("div");
    this.root.replaceChildren(
      h("div", { class: "head" }, h("h2", {}, "Calls past"),
        this.actions = h("div", { class: "head-actions" },
          button("Export JSON", (event) => this.#export("json", event.target)), button("Export CSV", (event) => this.#export("csv", event.target)),
          button("Delete a caller…", () => this.#deleteCaller(), "danger"))),
      this.single, this.form, this.told, this.list, h("div", { class: "actions after-list" }, this.more));
  }

  /** Those of now, to choose from; calls may have had others, which can be typed. */
  async #offerPersonas() {
    const { persona } = this.form.elements;
    persona.setAttribute("list", "past-personas");
    const { personas } = await ask("/api/personas").catch(() => ({ personas: [] })); // then it is typed
    this.form.querySelector("datalist").append(...personas.map(({ name }) => h("option", { value: name })));
  }

  /** What the form asks for, as the API wants it. */
  #wanted() {
    const wanted = Object.fromEntries([...new FormData(this.form)].filter(([, value]) => value));
    // Days are this browser's; the last one is meant whole.
    for (const [name, days] of [["since", 0], ["until", 1]]) {
      if (!wanted[name]) continue;
      const day = new Date(`${wanted[name]}T00:00`);
      day.setDate(day.getDate() + days);
      wanted[name] = day.toISOString();
    }
    if (wanted.min_duration_s) wanted.min_duration_s = Number(wanted.min_duration_s);
    if (wanted.model_failed) wanted.model_failed = wanted.model_failed === "true";
    return wanted;
  }

  async #search(after) {
    const wanted = { ...this.#wanted(), ...(after ? { after } : {}) };
    const turn = ++this.#asked;
    say(this.told, "Searching…");
    try {
      const page = await ask("/api/history/search", wanted);
      if (turn !== this.#asked) return; // another search was quicker
      if (!after) this.#empty(this.list);
      if (!after) this.list.append(h("div", { class: "row titles", "aria-hidden": "true" }, TITLES.map((title) => h("span", {}, title))));
      this.list.append(...page.calls.map((call) => this.#row(call)));
      this.next = page.next;
      this.#arrange();
      say(this.told, this.list.children.length < 2 ? "No call fits. Ask for less, or wait for the first one." : "");
    } catch (error) {
      if (turn === this.#asked) say(this.told, error.message);
    }
  }

  async #export(format, button) {
    if (!this.form.reportValidity()) return;
    const { sort: _, ...wanted } = this.#wanted();
    button.disabled = true;
    try {
      await save("/api/history/export", { ...wanted, format }, `calls.${format}`);
    } catch (error) {
      toast(error.message);
    } finally {
      button.disabled = false;
    }
  }

  /** Takes rows away; what plays in them stops. */
  #empty(rows) {
    for (const row of rows.querySelectorAll("details[data-id]")) row.close();
    rows.replaceChildren();
  }

  /** Shows one call, or the search and what it has found. */
  #arrange() {
    const isOne = Boolean(this.one);
    this.form.hidden = this.told.hidden = this.actions.hidden = isOne;
    this.list.hidden = isOne || this.list.children.length < 2;
    this.more.hidden = isOne || !this.next;
  }

  async #showOne(id) {
    this.one = id;
    this.#empty(this.single);
    this.#arrange();
    if (!id) return;
    const back = h("p", { class: "back" }, h("a", { href: "#history" }, "← All calls"));
    this.single.append(back);
    try {
      if (!ID.test(id)) throw new Refused("no such call is kept");
      const call = await ask(`/api/history/${encodeURIComponent(id)}`);
      if (this.one !== id) return;
      const row = this.#row(call);
      this.single.append(h("div", { class: "card list" }, row));
      row.open = true;
    } catch (error) {
      back.after(h("p", { class: "note bad", role: "alert" }, error.message));
    }
  }

  #row(call) {
    const row = h("details", { "data-id": call.id },
      h("summary", {}, h("span", {}, moment(new Date(call.started_at))), h("span", {}, clock(call.duration_s)),
        h("span", {}, call.persona), h("span", { class: "muted" }, who(call.caller)),
        h("span", call.model_failed ? { class: "pill bad" } : {}, OUTCOMES[call.outcome] ?? call.outcome)),
      h("div", { class: "detail" }, h("p", { class: "muted" }, "Reading…")));
    let opened = null;
    row.close = () => {
      opened?.close();
      opened = null;
    };
    row.addEventListener("toggle", async () => {
      row.close();
      if (!row.open) return;
      const detail = row.querySelector(".detail");
      try {
        const whole = await ask(`/api/history/${encodeURIComponent(call.id)}`);
        if (!row.open || !row.isConnected) return;
        row.close();
        opened = openCall(whole, [
          h("button", { class: "button danger", type: "button", onclick: () => this.#deleteCall(whole) }, "Delete this call…"),
          call.caller ? h("button", { class: "button danger", type: "button", onclick: () => this.#deleteCallerOf(whole) }, "Delete this caller…") : null]);
        detail.replaceChildren(...opened.elements);
        opened.shown();
      } catch (error) {
        detail.replaceChildren(h("p", { class: "note bad" }, error.message));
      }
    });
    return row;
  }

  /** A deleted call, wherever it is shown. */
  #drop(id) {
    for (const row of this.root.querySelectorAll("details")) if (row.dataset.id === id) {
      row.close();
      row.remove();
    }
    this.#arrange();
    if (this.list.children.length < 2) this.#search(); // there may be more, or none
  }

  async #deleteCall(call) {
    const meant = await sure({ title: "Delete this call?", danger: true, yes: "Delete the call",
      text: `What is kept of it goes for ever${call.has_recording ? ", its recording too" : ""}.` });
    if (!meant) return;
    await this.#delete(() => ask(`/api/history/${encodeURIComponent(call.id)}`, undefined, "DELETE"), () => this.#drop(call.id));
  }

  async #deleteCallerOf(call) {
    const whose = { [HIDDEN]: "Callers who hide their number are all one to the history: the calls of all of them",
      browser: "Calls from the browser are all one caller’s to the history: all of them" }[call.caller] ?? `All calls of this caller (${call.caller})`;
    const meant = await sure({ title: "Delete this caller’s data?", danger: true, yes: "Delete all their calls",
      text: `${whose} go for ever, with transcripts and recordings.` });
    if (meant) await this.#deleteMany({ call: call.id });
  }

  async #deleteCaller() {
    const number = await sure({ title: "Delete a caller’s data?", danger: true, yes: "Delete all their calls",
      text: "All calls of this number go for ever, with transcripts and recordings.",
      field: { label: "The caller’s whole number", type: "tel", placeholder: "+15550100" } });
    if (number) await this.#deleteMany({ number });
  }

  async #deleteMany(whose) {
    await this.#delete(() => ask("/api/history/delete-caller", whose), () => this.#search(), true);
  }

  /** `isMany`: some may be gone although it is refused (a recording stays, the database goes away). */
  async #delete(doIt, after, isMany = false) {
    const leave = () => {
      if (this.one) location.hash = "#history";
      after();
    };
    try {
      const { calls, recordings, recordings_missing: missing } = await doIt();
      const some = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
      const others = missing ? ` ${some(missing, "recording")} not found here: gone already, or on another machine.` : "";
      toast(`${some(calls, "call")} and ${some(recordings, "recording")} deleted.${others}`, calls && !missing ? "good" : "");
      leave();
    } catch (error) {
      toast(error.message);
      if (isMany && [409, 503].includes(error.status)) leave();
    }
  }
}
