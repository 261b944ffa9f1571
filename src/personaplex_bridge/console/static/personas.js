// Personas: what there is, and a draft to try.

import { h, say } from "./dom.js";
import { ask } from "./talk.js";

/** Drafts are kept by this browser: by the persona that they began as, or as `new` and the time. */
const KEPT = "drafts";

export class PersonasPage {
  #loaded = false;
  #drafts = {};

  constructor(root) {
    this.root = root;
    root.append(h("p", { class: "muted" }, "Reading the personas…"));
  }

  async show(bridge) {
    this.bridge = bridge ?? this.bridge;
    if (this.#loaded) return this.#tell();
    try {
      Object.assign(this, await ask("/api/personas"));
      this.#loaded = true;
      this.#drafts = this.#read();
      this.#build();
    } catch (error) {
      this.root.replaceChildren(h("p", { class: "note bad", role: "alert" }, error.message));
    }
  }

  #build() {
    this.list = h("ul", { class: "card picker", "aria-label": "Personas" });
    this.name = h("input", { id: "draft-name", autocomplete: "off", spellcheck: false, maxLength: 100, oninput: () => this.#keep() });
    this.voice = h("select", { id: "draft-voice", onchange: () => this.#keep() }, this.voices.map((voice) => h("option", {}, voice)));
    this.prompt = h("textarea", { id: "draft-prompt", "aria-describedby": "draft-count", oninput: () => this.#keep() });
    this.count = h("p", { class: "muted small", id: "draft-count" });
    this.tryIt = h("a", { class: "button primary", target: "_blank", rel: "noopener" }, "Try it in the phone");
    this.copied = h("span", { class: "muted small", role: "status" });
    this.why = h("span", { class: "muted small" });
    const field = (label, input) => h("div", { class: "field" }, h("label", { for: input.id }, label), input);
    this.root.replaceChildren(
      h("div", { class: "head" }, h("h2", {}, "Personas"), h("span", { class: "muted small" }, "Drafts stay in this browser. To have callers meet one, put it into PERSONAS_FILE."),
        h("div", { class: "head-actions" }, h("button", { class: "button", type: "button", onclick: () => this.#add() }, "New persona"))),
      h("div", { class: "personas" }, this.list,
        h("form", { class: "card editor", onsubmit: (event) => event.preventDefault() },
          h("div", { class: "two" }, field("Name", this.name), field("Voice", this.voice)),
          field("Prompt", this.prompt), this.count,
          h("div", { class: "actions" }, this.tryIt,
            h("button", { class: "button", type: "button", onclick: () => this.#copy() }, "Copy as TOML"),
            this.undo = h("button", { class: "button", type: "button", onclick: () => this.#undo() }),
            this.why, this.copied))));
    this.#fillList();
    this.#pick(this.#first);
  }

  /** The one that is open at first. */
  get #first() {
    return this.personas.find((persona) => persona.name === this.default) ?? this.personas[0];
  }

  /** The bridge's, and drafts that are none of the bridge's. */
  #fillList() {
    const known = new Set(this.personas.map(({ name }) => name));
    const own = Object.keys(this.#drafts).filter((key) => !known.has(key)).map((name) => ({ name, isOwn: true }));
    this.rows = [...this.personas, ...own].map((persona) => this.#row(persona));
    this.list.replaceChildren(...this.rows.map(({ button }) => h("li", {}, button)));
    this.#tellDrafts();
  }

  #row(persona) {
    const title = h("span"), about = h("span", { class: "muted small" });
    const draft = h("span", { class: "pill plain draft" }, "draft");
    const button = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.#pick(persona) },
      h("b", {}, title,
        persona.name === this.default ? h("span", { class: "pill plain good" }, "default") : null,
        persona.experimental ? h("span", { class: "pill plain warn" }, "experimental") : null, draft),
      about);
    return { persona, button, title, about, draft };
  }

  /** Each by the name that its draft has. */
  #tellDrafts() {
    for (const { persona, title, about, draft } of this.rows) {
      const changed = this.#drafts[persona.name];
      const isRenamed = !persona.isOwn && changed && changed.name !== persona.name;
      draft.hidden = !changed;
      say(title, changed?.name.trim() || (persona.isOwn ? "New persona" : persona.name));
      say(about, [isRenamed ? `from ${persona.name}` : "", persona.description, ...(persona.numbers ?? [])].filter(Boolean).join(" · "));
    }
  }

  #add() {
    const name = `new ${Date.now()}`;
    this.#drafts[name] = { name: "", voice: this.#first.voice, text_prompt: "" };
    this.#write();
    this.#fillList();
    this.#pick(this.rows.at(-1).persona);
    this.rows.at(-1).button.scrollIntoView({ block: "nearest" });
    this.name.focus();
  }

  #pick(persona) {
    this.picked = persona;
    for (const row of this.rows) row.button.setAttribute("aria-pressed", String(row.persona === persona));
    say(this.undo, persona.isOwn ? "Delete draft" : "Undo changes");
    const { name, voice, text_prompt } = this.#drafts[persona.name] ?? persona;
    Object.assign(this.name, { value: name });
    Object.assign(this.prompt, { value: text_prompt });
    this.voice.value = voice;
    this.#tell();
  }

  #undo() {
    delete this.#drafts[this.picked.name];
    this.#write();
    if (this.picked.isOwn) this.#fillList();
    this.#pick(this.picked.isOwn ? this.#first : this.picked);
  }

  #keep() {
    const { name, voice, text_prompt } = this.picked;
    const draft = { name: this.name.value, voice: this.voice.value, text_prompt: this.prompt.value };
    if (draft.name === name && draft.voice === voice && draft.text_prompt === text_prompt) delete this.#drafts[name];
    else this.#drafts[name] = draft;
    this.#write();
    this.#tell();
  }

  #read() {
    try {
      return JSON.parse(localStorage.getItem(KEPT)) ?? {};
    } catch {
      return {}; // no storage here, or not ours
    }
  }

  #write() {
    this.#tellDrafts();
    try {
      localStorage.setItem(KEPT, JSON.stringify(this.#drafts));
    } catch {
      // they last for this page only
    }
  }

  #tell() {
    if (!this.#loaded) return;
    const asked = new URLSearchParams({ voice: this.voice.value, text_prompt: this.prompt.value.trim() });
    if (!this.picked.isOwn) asked.set("persona", this.picked.name);
    const can = Boolean(this.bridge?.has_phone);
    if (can) this.tryIt.href = `/phone#${asked}`; // not ?: prompts don't belong in requests
    else this.tryIt.removeAttribute("href");
    this.tryIt.setAttribute("aria-disabled", String(!can));
    say(this.why, can ? "" : "This bridge has no phone in the browser.");
    say(this.copied, "");
    const { length } = this.prompt.value.trim();
    say(this.count, `${length} characters${this.#drafts[this.picked.name] ? " · changed" : ""}`);
  }

  async #copy() {
    const escaped = (text) => JSON.stringify(text).slice(1, -1); // TOML's escapes are JSON's, and more
    const quoted = (text) => `"${escaped(text.replace(/\s+/g, " ").trim())}"`;
    const lines = this.prompt.value.trim().split("\n").map(escaped);
    const prompt = lines.length > 1 ? `"""\n${lines.join("\n")}"""` : `"${lines[0]}"`;
    const toml = `[personas.${quoted(this.name.value || "draft")}]\nvoice = ${quoted(this.voice.value)}\ntext_prompt = ${prompt}\n`;
    try {
      await navigator.clipboard.writeText(toml);
      say(this.copied, "Copied.");
    } catch {
      say(this.copied, "The browser does not let pages copy here (https is needed).");
    }
  }
}
