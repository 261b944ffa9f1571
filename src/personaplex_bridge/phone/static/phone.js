// The page: what people choose and press, and what they are shown of a call.

import { Call } from "./call.js";
import { Choices } from "./choices.js";

const KEYS = "123456789*0#";
const PAUSE_S = 1.2; // so long between words begins a new paragraph
const QUIETEST_DB = -60;
const METER_EVERY_FRAMES = 5;

const at = (id) => document.getElementById(id);

const choices = new Choices(at("choices"));
let call = null;
let frames = 0;
let lastWordS = -Infinity;

// ------------------------------------------------------------------ choosing

async function loadOptions() {
  const { notice } = await choices.load();
  at("notice").textContent = notice ?? "";
  at("notice").hidden = notice === null;
}

function chosen() {
  return choices.inWords + (at("sound").checked ? ", in HD" : "");
}

// ------------------------------------------------------------------- calling

function begin() {
  call = new Call();
  frames = 0;
  lastWordS = -Infinity;
  at("words").replaceChildren();
  at("empty").hidden = false;
  for (const figure of document.querySelectorAll("dd")) figure.textContent = "–";
  at("timer").textContent = "0:00";
  tellProblem("");
  call.addEventListener("state", ({ detail }) => showState(detail));
  call.addEventListener("frame", ({ detail }) => showFrame(detail));
  call.addEventListener("mark", ({ detail }) => (at("mark").textContent = ms(detail.playedAfterMs)));
  call.addEventListener("bridge", ({ detail }) => showNews(detail.name, detail.data));
  call.addEventListener("notice", ({ detail }) => tellProblem(detail));
  call.addEventListener("over", ({ detail }) => showEnd(detail));
  showState("asking");
  const { wanted } = choices;
  allow(false);
  call.mute(false);
  call.begin(wanted);
}

const STATES = {
  asking: "Asking for the microphone and a model…",
  connecting: "Connecting…",
  talking: "The model is getting ready…",
};

function showState(state) {
  at("state").textContent = STATES[state];
  const isCalling = state === "talking";
  for (const key of at("keys").children) key.disabled = !isCalling;
  at("mute").disabled = !isCalling;
}

function showEnd({ text, isError }) {
  const failed = call.seconds === 0 ? "No call" : "The call has ended";
  at("state").textContent = isError ? failed : text;
  tellProblem(isError ? text : "");
  allow(true);
  showLevel(at("spoken"), -Infinity);
  showLevel(at("heard"), -Infinity);
  at("save").disabled = call.recording.samples === 0;
}

// Between calls people may choose, in a call they may press keys.
function allow(isIdle) {
  at("choices").hidden = !isIdle;
  for (const id of ["with", "keys", "meters"]) at(id).hidden = isIdle;
  at("with").textContent = `With ${chosen()}.`;
  for (const key of at("keys").children) key.disabled = true;
  at("mute").disabled = true;
  showMuted(false);
  at("save").disabled = true;
  at("call").textContent = isIdle ? "Call" : "Hang up";
  at("call").className = isIdle ? "button primary" : "button danger solid";
}

function press(digit) {
  if (!call?.isTalking) return;
  call.press(digit);
  const key = [...at("keys").children].find((button) => button.value === digit);
  key.classList.add("pressed");
  setTimeout(() => key.classList.remove("pressed"), 150);
}

function showMuted(isMuted) {
  at("mute").setAttribute("aria-pressed", String(isMuted));
  at("mute").textContent = isMuted ? "Muted" : "Mute";
}

function save() {
  const { recording } = call;
  const url = URL.createObjectURL(new Blob([recording.toWav()], { type: "audio/wav" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `call-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.wav`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// ------------------------------------------------------------------- showing

function showFrame({ spokenDb, heardDb, waitingMs, underruns }) {
  if (frames++ % METER_EVERY_FRAMES) return;
  showLevel(at("spoken"), spokenDb);
  showLevel(at("heard"), heardDb);
  at("waiting").textContent = ms(waitingMs);
  at("gaps").textContent = String(underruns);
  at("timer").textContent = clock(call.seconds);
  if (call.recording.isFull) {
    const minutes = call.recording.maxSeconds / 60;
    tellProblem(`Only the first ${minutes} minutes are in the recording.`);
  }
}

function showLevel(meter, db) {
  const shown = Math.max(QUIETEST_DB, Math.min(0, db));
  meter.setAttribute("aria-valuenow", String(Math.round(shown)));
  meter.setAttribute("aria-valuetext", shown > QUIETEST_DB ? `${Math.round(shown)} dB` : "silent");
  meter.style.setProperty("--share", String(1 - shown / QUIETEST_DB));
}

function showNews(name, data) {
  if (name === "ready") {
    if (call.isTalking) at("state").textContent = "Talking";
    at("ready-after").textContent = `${data.after_s.toFixed(1)} s`;
  } else if (name === "words") {
    for (const word of data) showWord(word);
  } else if (name === "figures") {
    at("reply").textContent = data.reply_ms === null ? "–" : ms(data.reply_ms);
    at("interruptions").textContent = String(data.interruptions);
  }
}

function showWord({ at_s: atS, text }) {
  const words = at("words");
  const isAtEnd = words.scrollHeight - words.scrollTop - words.clientHeight < 40;
  at("empty").hidden = true;
  if (atS - lastWordS >= PAUSE_S) {
    const phrase = document.createElement("p");
    const time = document.createElement("time");
    time.textContent = clock(atS);
    phrase.append(time, text);
    words.append(phrase);
  } else {
    words.lastElementChild.append(` ${text}`);
  }
  lastWordS = atS;
  if (isAtEnd) words.scrollTop = words.scrollHeight;
}

function tellProblem(text) {
  at("problem").textContent = text;
  at("problem").hidden = text === "";
}

function ms(time) {
  return `${Math.round(time)} ms`;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// -------------------------------------------------------------------- wiring

for (const digit of KEYS) {
  const key = document.createElement("button");
  Object.assign(key, { type: "button", className: "button", value: digit, textContent: digit, disabled: true });
  key.addEventListener("click", () => press(digit));
  at("keys").append(key);
}

at("choices").addEventListener("submit", (event) => {
  event.preventDefault();
  if (call === null || call.isOver) begin();
  else call.hangUp();
});
at("mute").addEventListener("click", () => {
  call.mute(!call.isMuted);
  showMuted(call.isMuted);
});
at("save").addEventListener("click", save);

document.addEventListener("keydown", ({ key, target, ctrlKey, altKey, metaKey }) => {
  const isTyping = target instanceof Element && target.closest("input, select, textarea");
  if (key.length === 1 && KEYS.includes(key) && !isTyping && !ctrlKey && !altKey && !metaKey) press(key);
});

// A page that goes away hangs up, so that the model's place is free for the next.
addEventListener("pagehide", () => call?.hangUp());

loadOptions().catch((error) => tellProblem(`The choices can't be loaded: ${error.message}.`));
