// The page: what people press, and what they are shown of the line, the call and its quality.

import { Choices } from "./choices.js";
import { Softphone } from "./twilio-device.js";
import { warningInWords } from "./twilio-errors.js";

const KEYS = "123456789*0#";
const REMEMBERED = "softphone-identity";
const MAX_LOG = 200;
const NO_MICROPHONE =
  "The browser gives no microphone to this address: open it as https, or at http://127.0.0.1.";
const METER_EVERY = 2; // of the SDK's, which come each 50 ms

const TITLE = document.title;

const at = (id) => document.getElementById(id);

const phone = new Softphone();
const choices = new Choices(at("choices"));
let talkingSinceMs = null;
let levels = 0;

// ------------------------------------------------------------------- the line

const LINES = { offline: "Offline", connecting: "Going online…", online: "Ready to call" };

function showLine(line) {
  at("identity").readOnly = line !== "offline";
  at("online").textContent = line === "offline" ? "Go online" : "Go offline";
  at("online").className = line === "offline" ? "button primary" : "button";
  at("edge").textContent = phone.edge ?? "–";
  if (phone.state === "over") at("state").textContent = LINES[line];
  if (line !== "connecting") note(line === "online" ? `Online as ${phone.identity}.` : "Offline.");
  if (line === "online") tellProblem("");
  allow();
}

function showReach() {
  const name = at("identity").validity.valid ? at("identity").value : "NAME";
  at("reach").textContent = `Letters, digits and underscores. TwiML reaches you as client:${name}.`;
}

// ------------------------------------------------------------------- the call

const STATES = {
  incoming: "Ringing",
  connecting: "Calling…",
  ringing: "It rings there…",
  talking: "Talking",
  reconnecting: "Reconnecting…",
};
const NOTES = { connecting: "Connecting.", ringing: "It rings there.", talking: "Connected." };

function showCall(state) {
  at("state").textContent = STATES[state] ?? LINES[phone.line];
  at("ringing").hidden = state !== "incoming";
  document.title = state === "incoming" ? "Incoming call" : TITLE;
  if (state === "incoming") showCaller();
  else if (state === "reconnecting") note("The connection is lost; trying again.");
  else if (state === "over") showEnd();
  else note(NOTES[state]);
  if (state === "talking") talkingSinceMs ??= performance.now();
  allow();
}

function showCaller() {
  at("ringing-who").textContent = phone.caller || "Somebody";
  note("A call comes in.");
  // For Enter and screen readers; but who types goes on typing.
  if (!document.activeElement?.matches("input, select, textarea")) at("answer").focus();
}

const ENDS = { cancel: "The caller has given up.", reject: "Refused.", disconnect: "No call." };

function showEnd() {
  tick();
  const wasTalking = talkingSinceMs !== null;
  note(wasTalking ? `The call is over, after ${at("timer").textContent}.` : ENDS[phone.ending]);
  talkingSinceMs = null;
  showLevels({ spoken: 0, heard: 0 });
  at("warnings").replaceChildren();
}

// What may be pressed now.
function allow() {
  const isIdle = phone.state === "over";
  const rings = phone.state === "incoming";
  for (const id of ["line", "choices"]) at(id).hidden = !isIdle;
  for (const id of ["with", "keys", "meters"]) at(id).hidden = isIdle || rings;
  at("call").textContent = isIdle || rings ? "Call" : "Hang up";
  at("call").className = isIdle || rings ? "button primary" : "button danger solid";
  at("call").disabled = rings || (isIdle && phone.line !== "online");
  for (const key of at("keys").children) key.disabled = !phone.isTalking;
  at("mute").disabled = !phone.isTalking;
  showMuted();
}

function dial() {
  at("with").textContent = `With ${choices.inWords}.`;
  begin();
  phone.dial(choices.wanted);
}

function answer() {
  at("with").textContent = `With ${phone.caller || "somebody"}.`;
  begin();
  phone.answer();
}

function begin() {
  tellProblem("");
  at("timer").textContent = "0:00";
  for (const id of ["rtt", "jitter", "lost", "mos", "codec"]) at(id).textContent = "–";
}

function press(digit) {
  if (!phone.isTalking) return;
  phone.press(digit);
  const key = [...at("keys").children].find((button) => button.value === digit);
  key.classList.add("pressed");
  setTimeout(() => key.classList.remove("pressed"), 150);
}

function showMuted() {
  at("mute").setAttribute("aria-pressed", String(phone.isMuted));
  at("mute").textContent = phone.isMuted ? "Muted" : "Mute";
}

// -------------------------------------------------------------------- showing

function showLevels({ spoken, heard }) {
  for (const [meter, level] of [[at("spoken"), spoken], [at("heard"), heard]]) {
    meter.setAttribute("aria-valuenow", String(Math.round(level * 100)));
    meter.style.setProperty("--share", String(level));
  }
}

function showSample({ rtt, jitter, packetsLostFraction, mos, codecName }) {
  const known = (value, unit, digits = 0) =>
    typeof value === "number" ? `${value.toFixed(digits)}${unit}` : "–";
  at("rtt").textContent = known(rtt, " ms");
  at("jitter").textContent = known(jitter, " ms");
  at("lost").textContent = known(packetsLostFraction, " %", 1);
  at("mos").textContent = known(mos, "", 1);
  at("codec").textContent = codecName ?? "–";
}

function showWarning({ name, isOver }) {
  const old = at("warnings").querySelector(`[data-name="${CSS.escape(name)}"]`);
  if (isOver) return old?.remove();
  if (old) return;
  const item = document.createElement("li");
  item.className = "note";
  item.dataset.name = name;
  item.textContent = warningInWords(name);
  at("warnings").append(item);
}

function tellProblem(text) {
  at("problem").textContent = text;
  at("problem").hidden = text === "";
  if (text !== "") note(text);
}

function note(text) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  item.append(time, text);
  at("log").append(item);
  at("empty").hidden = true;
  while (at("log").childElementCount > MAX_LOG) at("log").firstElementChild.remove();
  at("log").scrollTop = at("log").scrollHeight;
}

function tick() {
  if (talkingSinceMs === null) return;
  const whole = Math.floor((performance.now() - talkingSinceMs) / 1000);
  at("timer").textContent = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// -------------------------------------------------------------------- setting up

async function load() {
  const answered = await fetch("/softphone/options");
  if (!answered.ok) throw new Error(`the bridge answers ${answered.status}`);
  const options = await answered.json();
  if (!options.is_ready) return showSetup(options);
  at("identity").value = remembered() ?? options.identity;
  showReach();
  if (!navigator.mediaDevices) tellProblem(NO_MICROPHONE);
  await choices.load();
}

function showSetup({ settings, voice_url: voiceUrl }) {
  at("setup").hidden = false;
  at("setup").prepend(document.querySelector(".kinds")); // the other kind needs none of this
  for (const id of ["phone", "quality", "past"]) at(id).hidden = true;
  at("voice-url").textContent = voiceUrl ?? "https://YOUR-HOST/voice/inbound";
  for (const [name, isSet] of Object.entries(settings)) {
    const item = document.createElement("li");
    const pill = document.createElement("span");
    const code = document.createElement("code");
    pill.className = isSet ? "pill good" : "pill bad";
    pill.textContent = isSet ? "set" : "missing";
    code.textContent = name;
    item.append(pill, code);
    at("settings").append(item);
  }
}

function remembered() {
  try {
    return localStorage.getItem(REMEMBERED);
  } catch {
    return null; // no storage here
  }
}

function remember(identity) {
  try {
    localStorage.setItem(REMEMBERED, identity);
  } catch {
    // next time it has to be typed again
  }
}

// -------------------------------------------------------------------- wiring

for (const digit of KEYS) {
  const key = document.createElement("button");
  Object.assign(key, { type: "button", className: "button", value: digit, textContent: digit, disabled: true });
  key.addEventListener("click", () => press(digit));
  at("keys").append(key);
}

phone.addEventListener("line", ({ detail }) => showLine(detail));
phone.addEventListener("call", ({ detail }) => showCall(detail));
phone.addEventListener("levels", ({ detail }) => {
  if (levels++ % METER_EVERY === 0) showLevels(detail);
});
phone.addEventListener("sample", ({ detail }) => showSample(detail));
phone.addEventListener("warning", ({ detail }) => showWarning(detail));
phone.addEventListener("problem", ({ detail }) => tellProblem(detail));
phone.addEventListener("note", ({ detail }) => note(detail));

at("line").addEventListener("submit", (event) => {
  event.preventDefault();
  tellProblem("");
  if (phone.line !== "offline") return phone.goOffline();
  remember(at("identity").value);
  phone.goOnline(at("identity").value);
});
at("identity").addEventListener("input", showReach);
at("choices").addEventListener("submit", (event) => {
  event.preventDefault();
  if (phone.state === "over") dial();
  else phone.hangUp();
});
at("answer").addEventListener("click", answer);
at("refuse").addEventListener("click", () => phone.refuse());
at("mute").addEventListener("click", () => {
  phone.mute(!phone.isMuted);
  showMuted();
});

document.addEventListener("keydown", ({ key, target, ctrlKey, altKey, metaKey }) => {
  const isTyping = target instanceof Element && target.closest("input, select, textarea");
  if (key.length === 1 && KEYS.includes(key) && !isTyping && !ctrlKey && !altKey && !metaKey) press(key);
});

setInterval(tick, 250);
allow();
load().catch((error) => tellProblem(`The page can't be loaded: ${error.message}.`));
