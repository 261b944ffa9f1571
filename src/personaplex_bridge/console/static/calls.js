// Calls in progress: a card each, and below them those that ended last.

import { drawStrip, loudness } from "./charts.js";
import { chips, clock, h, moment, say, seconds, transcript, who } from "./dom.js";
import { lagGraph } from "./graphs.js";

const SPAN_S = 60;
const KEPT = SPAN_S * 4;
/** A pause so long between words begins a new line; as in the bridge's own transcripts. */
const PHRASE_GAP_S = 1.2;

const STATES = {
  waiting: ["warn", "Waiting for the model"],
  talking: ["good", "Talking"],
  lost: ["bad", "Model lost, seeking another"],
};

const ACTIONS = {
  forward: { label: "Forward", title: "Forward this call?", text: "The model leaves, and the caller is put through to the number that calls are forwarded to (FORWARD_TO).", yes: "Forward" },
  goodbye: { label: "Say goodbye", title: "End this call politely?", text: "The caller is told to call again (AGAIN_WORDS), then the call ends.", yes: "Say goodbye" },
  hangup: { label: "Hang up", title: "Hang up on this call?", text: "The call ends at once, without a word.", yes: "Hang up", danger: true },
};

class Card {
  #samples = [];
  #words = [];
  #seen = { sent: 0, gated: 0, turns: 0 };

  constructor(call, act) {
    this.call = {};
    this.#build(call.sid, act);
    this.replace(call);
  }

  #build(sid, act) {
    const level = (name, kind) => {
      const bar = h("i");
      const value = h("span", { class: "level-value" });
      const meter = h("div", { class: `level ${kind}`, role: "meter", "aria-label": `${name}’s level`,
        "aria-valuemin": "-90", "aria-valuemax": "0" }, bar);
      return { name: h("span", {}, name), meter, bar, value };
    };
    const figure = (name, title, kind = "") => {
      const value = h("dd");
      return { value, root: h("div", { class: `figure ${kind}`, title }, h("dt", {}, name), value) };
    };
    this.persona = h("h3");
    this.state = h("span", { class: "pill" });
    this.time = h("span", { class: "time", "aria-label": "Duration" });
    this.who = h("span");
    this.server = h("span");
    this.caller = level("Caller", "caller");
    this.model = level("Model", "model");
    this.strip = h("canvas", { class: "strip", role: "img" });
    this.toModel = figure("Lag to model", "What the caller has said, and the model has not answered", "caller line");
    this.toCaller = figure("Lag to caller", "What the model has said, and the caller has not heard", "model line");
    this.turn = figure("Answered after", "The latest turn: from the caller’s last word to the model’s first", "answer dot");
    this.gate = figure("Interruptions · gated", "Times the caller interrupted; how much of the caller reached the model as silence");
    this.lag = h("div", { class: "graph", role: "img" });
    this.graph = lagGraph(this.lag, SPAN_S);
    this.lines = h("ol", { "aria-live": "polite", "aria-label": "What the model says" });
    this.hint = h("p", { class: "muted" }, "The model’s words come here as it says them.");
    this.scroll = h("div", { class: "transcript", tabIndex: 0, role: "region", "aria-label": "Transcript" }, this.hint, this.lines);
    this.buttons = Object.entries(ACTIONS).map(([name, action]) =>
      h("button", { class: `button${action.danger ? " danger" : ""}`, type: "button", onclick: () => act(sid, name, action),
        "data-action": name }, action.label));
    this.root = h("article", { class: "card call", "data-sid": sid },
      h("div", { class: "call-head" }, this.persona, this.state, this.time),
      h("div", { class: "call-sub" }, this.who, this.server, h("span", { class: "mono", title: sid }, sid.length > 14 ? `${sid.slice(0, 8)}…${sid.slice(-4)}` : sid)),
      h("div", {},
        h("div", { class: "sound" },
          h("div", { class: "levels" },
            this.caller.name, this.caller.meter, this.caller.value, this.model.name, this.model.meter, this.model.value),
          this.strip,
          h("div", { class: "legend", "aria-hidden": "true" },
            ...[["caller", "caller"], ["gated", "gated"], ["model", "model"], ["answers", "answer"], ["interrupts", "interruption"], ["fails", "failure"]]
              .map(([kind, text]) => h("span", { class: kind }, text)),
            h("em", { class: "muted" }, "last minute"))),
        h("dl", { class: "figures" }, this.toModel.root, this.toCaller.root, this.turn.root, this.gate.root),
        this.lag),
      this.scroll,
      h("div", { class: "call-foot" }, this.buttons));
  }

  /** What has changed of the call: some of its fields, and the words that came. */
  update({ words, ...fields }) {
    Object.assign(this.call, fields);
    if (words) this.#add(words);
    this.#sample();
    this.#show();
  }

  /** All there is, anew: at first, and after a reconnection. */
  replace({ words, ...fields }) {
    this.#words = [];
    this.lines.replaceChildren();
    Object.assign(this.call, fields);
    this.#seen = { sent: fields.sent_frames, gated: fields.gated_frames, turns: fields.turns };
    this.#add(words ?? []);
    this.#show();
  }

  #add(words) {
    const atEnd = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < 40;
    for (const [at, text] of words) {
      const last = this.#words.at(-1);
      if (last && at - last.until < PHRASE_GAP_S) {
        last.until = at;
        last.line.append(` ${text}`);
      } else {
        const line = h("span", {}, text);
        this.lines.append(h("li", {}, h("time", {}, clock(at)), line));
        this.#words.push({ until: at, line });
      }
    }
    this.hint.hidden = this.#words.length > 0;
    if (atEnd) this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  #sample() {
    const { call } = this;
    const sent = call.sent_frames - this.#seen.sent, gated = call.gated_frames - this.#seen.gated;
    const answered = call.turns > this.#seen.turns ? Math.round(call.turn_delay_s * 1000) : null;
    this.#seen = { sent: call.sent_frames, gated: call.gated_frames, turns: call.turns };
    const before = this.#samples.at(-1);
    this.#samples.push({
      at: call.duration_s, caller: call.caller_db, model: call.model_db,
      gated: sent > 0 ? gated / sent : before?.gated ?? 0,
      toModel: call.to_model_lag_ms, toCaller: call.to_caller_lag_ms, answered,
    });
    if (this.#samples.length > KEPT) this.#samples.shift();
  }

  #show() {
    const { call } = this;
    const [kind, text] = STATES[call.state] ?? ["", call.state];
    say(this.persona, call.persona);
    this.state.className = `pill ${kind}`;
    say(this.state, text);
    say(this.time, clock(call.duration_s));
    say(this.who, call.caller ? `${who(call.caller)}${call.called ? ` → ${call.called}` : ""}` : "unknown caller");
    say(this.server, call.server ? `model server ${call.server}` : "no model server");
    for (const [level, db] of [[this.caller, call.caller_db], [this.model, call.model_db]]) {
      level.bar.style.transform = `scaleX(${loudness(db).toFixed(3)})`;
      level.meter.setAttribute("aria-valuenow", String(Math.round(db)));
      say(level.value, db <= -90 ? "silent" : `${Math.round(db)} dB`.replace("-", "−"));
    }
    say(this.toModel.value, `${call.to_model_lag_ms} ms`);
    say(this.toCaller.value, `${call.to_caller_lag_ms} ms`);
    say(this.turn.value, call.turns ? `${seconds(call.turn_delay_s)} · ${call.turns} turn${call.turns === 1 ? "" : "s"}` : "–");
    const share = call.sent_frames ? Math.round((100 * call.gated_frames) / call.sent_frames) : 0;
    say(this.gate.value, `${call.barge_ins} · ${share} %`);
    this.draw();
  }

  draw() {
    const { call } = this;
    drawStrip(this.strip, this.#samples, call.marks ?? [], call.duration_s, SPAN_S);
    this.strip.setAttribute("aria-label",
      `The last minute: ${call.barge_ins} interruptions, ${call.failures} failures so far`);
    this.graph.show(this.#samples, call.duration_s);
    this.lag.setAttribute("aria-label",
      `Delay and lag in the last minute: now ${call.to_model_lag_ms} ms to the model, ${call.to_caller_lag_ms} ms to the caller`);
  }

  /** Whether FORWARD_TO is set. */
  allowForwarding(can) {
    const button = this.buttons[0];
    button.disabled = !can;
    button.title = can ? "" : "Set FORWARD_TO to forward calls";
  }
}

/** The calls' page. `act(sid, action, words)` ends a call. */
export class CallsPage {
  #cards = new Map();
  #ended = [];

  constructor(root, act) {
    this.act = act;
    this.inProgress = h("dd");
    this.holding = h("dd");
    this.servers = h("ul", { class: "servers" });
    this.notes = h("div");
    this.grid = h("div", { class: "calls" });
    this.empty = h("div", { class: "card empty" },
      h("p", {}, "Nobody is calling right now. Calls appear here by themselves."),
      h("ul", {},
        h("li", {}, "From a phone: let your Twilio number’s voice webhook be ", h("code", {}, `${location.origin}/voice/inbound`)),
        this.byPhone = h("li", { hidden: true }, "From this browser: ", h("a", { href: "/phone" }, "open the phone")),
        h("li", {}, "Without a phone, a simulated call with a sound file of yours: ",
          h("code", {}, `personaplex-bridge call hello.wav --url ${location.origin}/voice/inbound`))));
    this.emptyTitle = h("h3", {}, "No calls");
    this.empty.prepend(this.emptyTitle);
    this.list = h("div", { class: "card list" });
    this.over = h("div", {}, h("div", { class: "head" }, h("h2", {}, "Just ended"),
      h("span", { class: "muted small" }, "the last 50 since the bridge was started")), this.list);
    root.append(
      h("div", { class: "head" }, h("h2", {}, "Now")),
      h("dl", { class: "card facts" },
        h("div", {}, h("dt", {}, "Calls in progress"), this.inProgress),
        h("div", {}, h("dt", {}, "Callers on hold"), this.holding),
        h("div", {}, h("dt", {}, "Model servers"), h("dd", {}, this.servers))),
      this.notes,
      h("div", { class: "head" }, h("h2", {}, "Calls")), this.grid, this.over);
    const redraw = () => { for (const card of this.#cards.values()) card.draw(); };
    addEventListener("themechange", redraw);
    addEventListener("resize", redraw);
    addEventListener("hashchange", () => requestAnimationFrame(redraw));
  }

  state({ bridge, servers, calls, ended }) {
    const sids = new Set(calls.map((call) => call.sid));
    for (const sid of this.#cards.keys()) if (!sids.has(sid)) this.#remove(sid);
    this.bridge = bridge;
    for (const call of calls) {
      const card = this.#cards.get(call.sid);
      if (card) card.replace(call);
      else this.#open(call);
    }
    this.#ended = ended;
    this.#tellBridge();
    this.#tellServers(servers);
    this.#tellEnded();
    this.#tellCount();
  }

  change({ bridge, servers, calls = [], gone = [], ended = [], forgotten = [] }) {
    if (bridge) {
      this.bridge = bridge;
      this.#tellBridge();
    }
    if (servers) this.#tellServers(servers);
    for (const call of calls) {
      const card = this.#cards.get(call.sid);
      if (card) card.update(call);
      else if ("persona" in call) this.#open(call);
    }
    gone.forEach((sid) => this.#remove(sid));
    if (ended.length || forgotten.length) {
      this.#ended = this.#ended.filter((call) => !forgotten.includes(call.sid));
      this.#ended.push(...ended);
      this.#ended.splice(0, this.#ended.length - 50);
      this.#tellEnded();
    }
    this.#tellCount();
  }

  stale(is) {
    this.grid.classList.toggle("stale", is);
  }

  #open(call) {
    const card = new Card(call, this.act);
    card.allowForwarding(this.bridge.can_forward);
    this.#cards.set(call.sid, card);
    this.grid.append(card.root);
    requestAnimationFrame(() => card.draw());
  }

  #remove(sid) {
    const card = this.#cards.get(sid);
    if (card?.root.contains(document.activeElement)) document.getElementById("main").focus();
    card?.root.remove();
    this.#cards.delete(sid);
  }

  #tellCount() {
    const size = this.#cards.size;
    this.inProgress.replaceChildren(String(size), " ", h("small", {}, `of ${this.bridge.max_calls}`));
    if (size) this.empty.remove();
    else if (!this.empty.isConnected) this.grid.append(this.empty);
    document.title = size ? `(${size}) PersonaPlex bridge` : "PersonaPlex bridge";
  }

  #tellBridge() {
    const { bridge } = this;
    say(this.holding, String(bridge.callers_waiting));
    this.byPhone.hidden = !bridge.has_phone;
    const notes = [];
    if (bridge.draining) notes.push(["", "The bridge is being shut down: it takes no new calls."]);
    if (bridge.leases === "away") notes.push(["bad", "The store of leases (LEASES_URL) can’t be reached: no new call begins."]);
    this.notes.replaceChildren(...notes.map(([kind, text]) => h("p", { class: `note ${kind}`, role: "alert" }, text)));
    this.notes.style.marginTop = notes.length ? "1rem" : "0";
    for (const card of this.#cards.values()) card.allowForwarding(bridge.can_forward);
  }

  #tellServers(servers) {
    const words = { closed: ["good", "up"], "half-open": ["warn", "being tried"], open: ["bad", "down"] };
    this.servers.replaceChildren(...servers.map((server) => {
      const [kind, text] = words[server.circuit] ?? ["", server.circuit];
      const failed = server.last_failure && server.circuit !== "closed" ? `, ${server.last_failure}` : "";
      return h("li", { class: `pill ${kind}`, title: server.last_failure ? `Last failure: ${server.last_failure}` : "" },
        `${server.number}: ${text}${failed} · ${server.busy}/${server.capacity}`);
    }));
  }

  #tellEnded() {
    const open = new Set([...this.list.querySelectorAll("details[open]")].map((one) => one.dataset.key));
    this.over.hidden = !this.#ended.length;
    const titles = ["When", "Length", "Persona", "Caller", "How it ended"];
    this.list.replaceChildren(h("div", { class: "row titles", "aria-hidden": "true" }, titles.map((title) => h("span", {}, title))),
      ...this.#ended.toReversed().map((call) => endedRow(call, open)));
  }
}

function endedRow(call, open) {
  const key = `${call.sid} ${call.ended_at_s}`;
  const failed = call.ended_by === "model" || call.close_code === 1011;
  return h("details", { "data-key": key, open: open.has(key) },
    h("summary", {},
      h("span", {}, moment(new Date(call.ended_at_s * 1000))),
      h("span", {}, clock(call.duration_s)),
      h("span", {}, call.persona),
      h("span", { class: "muted" }, who(call.caller)),
      h("span", failed ? { class: "pill bad" } : {}, call.reason)),
    h("div", { class: "detail" },
      chips([["turns", call.turns], ["interruptions", call.barge_ins], ["model failures", call.failures],
        ["ended by", call.ended_by], ["close code", call.close_code], ["call", call.sid]]),
      transcript(call.transcript)));
}
