// What waits to be heard: media strictly in order, marks at their place, `clear`. As Twilio's.
//
// What comes when it has run dry waits for a moment before it is played: messages that come a few
// milliseconds late then make no gap.

export const CUSHION_MS = 40;
const MAX_WAITING_S = 10 * 60; // Twilio's bound: ten minutes, its error 31931

export class PlayoutOverflow extends Error {}

export class Playout {
  // Of media in a format; all lengths are bytes of whole samples.
  constructor(format) {
    this.format = format;
    this.cushion = (CUSHION_MS * format.bytesPerSecond) / 1000;
    this.underruns = 0; // times the sound stopped for want of media
    this.queue = []; // pieces of media and marks, in order
    this.waiting = 0; // bytes
    this.isPlaying = false;
    this.patience = this.cushion; // how long it still waits, in bytes of silence
  }

  get waitingMs() {
    return (this.waiting * 1000) / this.format.bytesPerSecond;
  }

  add(media) {
    this.waiting += media.length;
    if (this.waiting > MAX_WAITING_S * this.format.bytesPerSecond) {
      throw new PlayoutOverflow("ten minutes of sound wait");
    }
    this.queue.push(media);
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
    const heard = new Uint8Array(count).fill(this.format.silence);
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
    this.patience = this.cushion;
  }
}
