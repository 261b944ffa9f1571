// A telephone at Twilio, through their Voice SDK (`Twilio`, a plain script): online or not, and one
// call at a time. It knows nothing of the page.
// https://www.twilio.com/docs/voice/sdks/javascript

import { inWords, isOfToken } from "./twilio-errors.js";

const TOKEN_PATH = "/voice/token";
const RENEW_BEFORE_MS = 60_000;
const SIGNALLING_BACK_MS = 30_000; // the most that the SDK takes
const RENEW_AGAIN_MS = 10_000;

const MICROPHONE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export class Softphone extends EventTarget {
  // Events, each a CustomEvent with `detail`: `line` ("offline", "connecting", "online"), `call`
  // ("incoming", "connecting", "ringing", "talking", "reconnecting", "over"), `levels` {spoken,
  // heard} from 0 to 1, `sample` (the SDK's), `warning` {name, isOver}, `problem` and `note` (text).
  constructor() {
    super();
    this.device = null;
    this.call = null; // incoming ones, too
    this.line = "offline";
    this.state = "over"; // of the call
    this.ending = "disconnect"; // how the last one ended: "disconnect", "cancel" or "reject"
  }

  // Be reachable as `identity`. Errors end in a `problem`.
  async goOnline(identity) {
    const attempt = (this.attempt = Symbol("attempt"));
    this.identity = identity;
    this.#showLine("connecting");
    try {
      const token = await this.#fetchToken();
      if (this.attempt !== attempt) return; // they don't want to any more
      this.#makeDevice(token);
      // What goes wrong now is told as `error`, and the SDK tries again by itself.
      this.device.register().catch(() => {});
    } catch (error) {
      if (this.attempt === attempt) this.#fail(error);
    }
  }

  goOffline() {
    this.attempt = null;
    clearTimeout(this.renewal);
    this.#showLine("offline");
    this.device?.destroy(); // hangs up, too
    this.device = null;
  }

  // Call through the TwiML App. `wanted` may hold persona, voice and text_prompt.
  async dial(wanted) {
    this.#showCall("connecting");
    try {
      const rtcConstraints = { audio: MICROPHONE };
      this.#take(await this.device.connect({ params: wanted, rtcConstraints }));
    } catch (error) {
      this.#showEnd("disconnect");
      this.#tell("problem", inWords(error));
    }
  }

  answer() {
    this.#showCall("connecting");
    this.call.accept({ rtcConstraints: { audio: MICROPHONE } });
  }

  refuse() {
    this.call.reject();
  }

  hangUp() {
    this.call?.disconnect();
  }

  press(digit) {
    if (this.isTalking) this.call.sendDigits(digit);
  }

  mute(isMuted) {
    this.call?.mute(isMuted);
  }

  get isTalking() {
    return this.state === "talking";
  }

  get isMuted() {
    return this.call?.isMuted() ?? false;
  }

  // Of an incoming call.
  get caller() {
    return this.call?.parameters.From ?? "";
  }

  get edge() {
    return this.device?.edge ?? null;
  }

  #makeDevice(token) {
    const device = new Twilio.Device(token, {
      appName: "personaplex-bridge",
      codecPreferences: ["opus", "pcmu"],
      closeProtection: "Leaving this page ends the call.",
      enableImprovedSignalingErrorPrecision: true,
      // A call whose signalling is lost goes on if it is back in time, at the call's own edge.
      maxCallSignalingTimeoutMs: SIGNALLING_BACK_MS,
      tokenRefreshMs: RENEW_BEFORE_MS,
    });
    this.device = device;
    device.on("registered", () => this.#showLine("online"));
    device.on("unregistered", () => {
      if (this.line === "online") this.#tell("note", "The connection to Twilio is lost; trying again.");
      if (this.line !== "offline") this.#showLine("connecting");
    });
    device.on("incoming", (call) => this.#ring(call));
    device.on("tokenWillExpire", () => this.#renew());
    device.on("error", (error) => {
      if (isOfToken(error)) this.#fail(error);
      else this.#tell("problem", inWords(error));
    });
  }

  #ring(call) {
    if (this.call) return call.ignore();
    this.#take(call);
    this.#showCall("incoming");
  }

  #take(call) {
    this.call = call;
    call.on("ringing", () => this.#showCall("ringing"));
    call.on("accept", () => this.#showCall("talking"));
    call.on("reconnecting", () => this.#showCall("reconnecting"));
    call.on("reconnected", () => this.#showCall("talking"));
    for (const end of ["disconnect", "cancel", "reject"]) call.on(end, () => this.#showEnd(end));
    call.on("error", (error) => {
      if (call.status() === "closed") this.#showEnd("disconnect");
      this.#tell("problem", inWords(error));
    });
    call.on("volume", (spoken, heard) => this.#tell("levels", { spoken, heard }));
    call.on("sample", (sample) => this.#tell("sample", sample));
    call.on("warning", (name) => this.#tell("warning", { name, isOver: false }));
    call.on("warning-cleared", (name) => this.#tell("warning", { name, isOver: true }));
  }

  async #fetchToken() {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ identity: this.identity });
    const answer = await fetch(TOKEN_PATH, { method: "POST", headers, body }).catch(() => {
      throw new Error("The bridge does not answer: is it running?");
    });
    if (answer.status === 401) throw new Error("You are logged out: reload this page.");
    const { token, detail } = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(`The bridge gives no token: ${detail ?? answer.status}.`);
    return token;
  }

  // Until the token has expired, which Twilio tells.
  async #renew() {
    const { device } = this;
    try {
      const token = await this.#fetchToken();
      if (this.device !== device) return;
      device.updateToken(token);
      this.#tell("note", "The token is renewed.");
    } catch (error) {
      if (this.device !== device) return;
      this.#tell("problem", `The token can't be renewed. ${inWords(error)}`);
      this.renewal = setTimeout(() => this.#renew(), RENEW_AGAIN_MS);
    }
  }

  #fail(error) {
    this.goOffline();
    this.#tell("problem", inWords(error));
  }

  #showLine(line) {
    if (this.line === line) return;
    this.line = line;
    this.#tell("line", line);
  }

  #showCall(state) {
    if (this.state === state) return;
    this.state = state;
    this.#tell("call", state);
  }

  #showEnd(ending) {
    this.ending = ending;
    this.#showCall("over");
    this.call = null;
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
