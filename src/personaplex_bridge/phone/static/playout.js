// What waits to be heard: media strictly in order, marks at their place, `clear`. As Twilio's.
//
// What comes when it has run dry waits for a moment before it is played: messages that come a few
// milliseconds late then make no gap.

import { RATE_HZ, SILENCE } from "./mulaw.js";

export const CUSHION_MS = 40;
const CUSHION_BYTES = (CUSHION_MS * RATE_HZ) / 1000;
const MAX_WAITING_BYTES = 10 * 60 * RATE_HZ; // Twilio's bound: ten minutes, its error 31931

export class PlayoutOverflow extends Error {}

export class Playout {
  constructor() {
    this.underruns = 0; // times the sound stopped for want of media
    this.queue = []; // pieces of media and marks, in order
    this.waiting = 0; // bytes
    this.isPlaying = false;
    this.patience = CUSHION_BYTES; // how long it still waits, in bytes of silence
  }

  get waitingMs() {
    return (this.waiting * 1000) / RATE_HZ;
  }

  add(mulaw) {
    this.waiting += mulaw.length;
    if (this.waiting > MAX_WAITING_BYTES) throw new PlayoutOverflow("ten minutes of sound wait");
    this.queue.push(mulaw);
  }

  // Set a mark after all that waits; returns the names of those that are reached already.
  mark(name) {
    if (this.waiting === 0) return [name];
    this.queue.push(name);
    return [];
  }

  // Forget what waits; returns the names of all marks, in order.
  clear() {
    const names = this.queue.filter((item) => typeof item === "string");
    this.queue = [];
    this.waiting = 0;
    this.#rest();
    return names;
  }

  // The next bytes to be heard, silence where media is missing, and the marks that this reaches.
  take(count) {
    const heard = new Uint8Array(count).fill(SILENCE);
    const marks = [];
    if (!this.#isDue(count)) return { heard, marks };
    let filled = 0;
    while (this.queue.length > 0) {
      const next = this.queue[0];
      if (typeof next === "string") {
        marks.push(next);
        this.queue.shift();
        continue;
      }
      if (filled === count) break;
      const piece = next.subarray(0, count - filled);
      heard.set(piece, filled);
      filled += piece.length;
      if (piece.length === next.length) this.queue.shift();
      else this.queue[0] = next.subarray(piece.length);
    }
    this.waiting -= filled;
    if (filled < count) {
      this.underruns++;
      this.#rest();
    }
    return { heard, marks };
  }

  #isDue(count) {
    if (!this.isPlaying && this.waiting > 0) {
      this.isPlaying = this.patience <= 0;
      this.patience -= count;
    }
    return this.isPlaying;
  }

  #rest() {
    this.isPlaying = false;
    this.patience = CUSHION_BYTES;
  }
}
