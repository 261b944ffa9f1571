// Both sides of a call as a WAV: the caller left, the model right, as in the phone they were heard.

export const MAX_WAV_BYTES = 3600 * 8000 * 4; // an hour of the telephone, twenty minutes of HD
const HEADER_BYTES = 44;

export class Recording {
  constructor(format) {
    this.format = format;
    this.frames = []; // pairs of media: spoken, heard
    this.samples = 0; // of one side
  }

  get seconds() {
    return this.samples / this.format.rateHz;
  }

  get maxSeconds() {
    return MAX_WAV_BYTES / (this.format.rateHz * 4);
  }

  get isFull() {
    return this.seconds >= this.maxSeconds;
  }

  // Keep a frame of each side; no more is kept than `maxSeconds`.
  add(spoken, heard) {
    if (this.isFull) return;
    this.frames.push([spoken, heard]);
    this.samples += spoken.length / this.format.sampleBytes;
  }

  // RIFF WAVE, two channels of 16 bits.
  toWav() {
    const { rateHz, decode } = this.format;
    const wav = new DataView(new ArrayBuffer(HEADER_BYTES + this.samples * 4));
    writeHeader(wav, rateHz, this.samples * 4);
    let at = HEADER_BYTES;
    for (const [spoken, heard] of this.frames) {
      const [left, right] = [decode(spoken), decode(heard)];
      for (let sample = 0; sample < left.length; sample++, at += 4) {
        wav.setInt16(at, left[sample], true);
        wav.setInt16(at + 2, right[sample], true);
      }
    }
    return wav.buffer;
  }
}

function writeHeader(wav, rateHz, size) {
  const text = (at, letters) => [...letters].forEach((c, i) => wav.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  wav.setUint32(4, HEADER_BYTES - 8 + size, true);
  text(8, "WAVEfmt ");
  wav.setUint32(16, 16, true);
  wav.setUint16(20, 1, true); // PCM
  wav.setUint16(22, 2, true); // channels
  wav.setUint32(24, rateHz, true);
  wav.setUint32(28, rateHz * 4, true);
  wav.setUint16(32, 4, true);
  wav.setUint16(34, 16, true);
  text(36, "data");
  wav.setUint32(40, size, true);
}
