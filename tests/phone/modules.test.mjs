// The page's modules that need no page, in Node: `node --test`. Expected values come from elsewhere
// than the modules: from test_modules.py (the codecs of the bridge) and from arithmetic.

import assert from "node:assert/strict";
import { test } from "node:test";

const at = (name) => import(new URL(`../../src/personaplex_bridge/phone/static/${name}`, import.meta.url));
const { decode, encode } = await at("mulaw.js");
const l16 = await at("l16.js");
const { HD, TELEPHONE, formatOf } = await at("format.js");
const { Resampler } = await at("resample.js");
const { MediaStream, StreamError } = await at("stream.js");
const { CUSHION_MS, Playout, PlayoutOverflow } = await at("playout.js");
const { Recording } = await at("recording.js");

const fromTests = JSON.parse(process.env.EXPECTED ?? "null");

const SIDS = { accountSid: "AC0", callSid: "CA1", streamSid: "MZ2", parameters: { token: "t" }, format: TELEPHONE };

function sine(hz, rateHz, seconds) {
  return Float32Array.from({ length: rateHz * seconds }, (_, i) => Math.sin((2 * Math.PI * hz * i) / rateHz));
}

// In decibels of the input's, the beginning and the end left out.
function gain(output) {
  const middle = output.slice(output.length / 4, (output.length * 3) / 4);
  const power = middle.reduce((sum, sample) => sum + sample * sample, 0) / middle.length;
  return 10 * Math.log10(power / 0.5);
}

test("mu-law is the bridge's, for every byte and every sample", { skip: fromTests === null }, () => {
  const every = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  assert.deepEqual([...decode(every)], fromTests.decoded);
  const samples = Float32Array.from({ length: 65536 }, (_, i) => (i - 32768) / 32768);
  assert.equal(Buffer.from(encode(samples)).toString("base64"), fromTests.encoded);
});

test("mu-law clips what is too loud", () => {
  assert.deepEqual([...encode([2, -2])], [...encode([1, -1])]);
});

test("audio/L16 is the bridge's", { skip: fromTests === null }, () => {
  const samples = Float32Array.from({ length: 772 }, (_, i) => (i * 85 - 32768) / 32768);
  const bytes = l16.encode(samples);
  assert.equal(Buffer.from(bytes).toString("base64"), fromTests.l16);
  assert.deepEqual([...l16.decode(bytes)], Array.from(samples, (sample) => sample * 32768));
  assert.deepEqual([...l16.encode([1, 2, -2])], [0x7f, 0xff, 0x7f, 0xff, 0x80, 0]);
  assert.deepEqual([...l16.decode(bytes.subarray(2, 4))], [-32683]); // a piece of a larger buffer
});

test("a format is known by its encoding", () => {
  assert.equal(formatOf("audio/L16"), HD);
  assert.equal(formatOf("audio/x-mulaw"), TELEPHONE);
  assert.equal(formatOf("audio/opus"), null);
  assert.deepEqual([TELEPHONE.frameBytes, HD.frameBytes], [160, 960]);
});

for (const rateHz of [44100, 48000, 96000, 24000]) {
  test(`from ${rateHz} Hz to HD and back`, () => {
    for (const hz of [100, 1000, 4500, 10200]) {
      const down = new Resampler(rateHz, HD.rateHz).process(sine(hz, rateHz, 1));
      const up = new Resampler(HD.rateHz, rateHz).process(sine(hz, HD.rateHz, 1));
      for (const level of [gain(down), gain(up)]) assert.ok(Math.abs(level) < 0.05, `${hz} Hz: ${level} dB`);
    }
    if (rateHz === HD.rateHz) return;
    for (const hz of [12100, 13000, 20000]) {
      const level = gain(new Resampler(rateHz, HD.rateHz).process(sine(hz, rateHz, 1)));
      assert.ok(level < -70, `${hz} Hz: ${level} dB`);
    }
  });
}

test("a microphone with less than HD makes no images", () => {
  const level = gain(new Resampler(16000, HD.rateHz).process(sine(6000, 16000, 1)));
  assert.ok(Math.abs(level) < 0.05, `${level} dB`);
  // What 7.9 kHz would be mirrored to, 8.1 kHz, is gone as well as 7.9 kHz itself nearly is.
  assert.ok(gain(new Resampler(16000, HD.rateHz).process(sine(7990, 16000, 1))) < -60);
});

for (const rateHz of [44100, 48000, 96000, 16000, 8000]) {
  test(`from ${rateHz} Hz to the telephone's band and back`, () => {
    for (const [hz, least, most] of [[100, -0.05, 0.05], [1000, -0.05, 0.05], [3400, -0.05, 0.05]]) {
      const down = new Resampler(rateHz, 8000).process(sine(hz, rateHz, 1));
      const up = new Resampler(8000, rateHz).process(sine(hz, 8000, 1));
      for (const level of [gain(down), gain(up)]) {
        assert.ok(level > least && level < most, `${hz} Hz: ${level} dB`);
      }
    }
  });
}

for (const rateHz of [44100, 48000, 96000]) {
  test(`from ${rateHz} Hz nothing folds back`, () => {
    for (const hz of [4100, 5000, 7000, 8000, 12000, 20000]) {
      const level = gain(new Resampler(rateHz, 8000).process(sine(hz, rateHz, 1)));
      assert.ok(level < -70, `${hz} Hz: ${level} dB`);
    }
  });

  test(`to ${rateHz} Hz there are no images`, () => {
    const output = new Resampler(8000, rateHz).process(sine(3000, 8000, 1)).slice(rateHz / 4, (rateHz * 3) / 4);
    let [cosine, sinus] = [0, 0]; // what there is of the image at 5000 Hz
    output.forEach((sample, i) => {
      cosine += sample * Math.cos((2 * Math.PI * 5000 * i) / rateHz);
      sinus += sample * Math.sin((2 * Math.PI * 5000 * i) / rateHz);
    });
    const level = 20 * Math.log10((2 * Math.hypot(cosine, sinus)) / output.length);
    assert.ok(level < -60, `${level} dB`);
  });
}

test("how the input is cut makes no difference, and no sample is lost", () => {
  for (const [from, to] of [[48000, 8000], [44100, 8000], [8000, 44100], [8000, 48000], [48000, 24000], [24000, 44100]]) {
    const input = Float32Array.from({ length: from }, (_, i) => Math.sin(i * i * 0.0001));
    const whole = new Resampler(from, to).process(input);
    assert.equal(whole.length, to);
    const resampler = new Resampler(from, to);
    const pieces = [];
    for (let begin = 0, size = 1; begin < input.length; begin += size, size = (size * 7 + 3) % 200) {
      pieces.push(...resampler.process(input.subarray(begin, begin + size)));
    }
    assert.deepEqual(Float32Array.from(pieces), whole);
  }
});

test("a stream begins as Twilio's, with numbers as strings", () => {
  const stream = new MediaStream(SIDS);
  const [connected, start] = stream.open().map((text) => JSON.parse(text));
  assert.deepEqual(connected, { event: "connected", protocol: "Call", version: "1.0.0" });
  assert.equal(start.sequenceNumber, "1");
  assert.deepEqual(start.start.mediaFormat, { encoding: "audio/x-mulaw", sampleRate: 8000, channels: 1 });
  assert.deepEqual(start.start.customParameters, { token: "t" });
  const frames = [0, 1, 2].map(() => JSON.parse(stream.media(new Uint8Array(160))));
  assert.deepEqual(frames.map(({ media }) => [media.chunk, media.timestamp]), [["1", "0"], ["2", "20"], ["3", "40"]]);
  assert.deepEqual(frames.map(({ sequenceNumber }) => sequenceNumber), ["2", "3", "4"]);
  const stop = JSON.parse(stream.stop());
  assert.deepEqual([stop.sequenceNumber, stop.streamSid, stop.stop.callSid], ["5", "MZ2", "CA1"]);
});

test("keys are those of a telephone", () => {
  const stream = new MediaStream(SIDS);
  for (const digit of "0123456789*#ABCD") assert.equal(JSON.parse(stream.dtmf(digit)).dtmf.digit, digit);
  for (const digit of ["", "12", "x", "a"]) assert.throws(() => stream.dtmf(digit), StreamError);
});

test("what the bridge says is understood, and what isn't of a stream refused", () => {
  const stream = new MediaStream(SIDS);
  const said = (message) => stream.receive(JSON.stringify({ streamSid: "MZ2", ...message }));
  assert.deepEqual(said({ event: "media", media: { payload: "/38A" } }), {
    event: "media",
    media: Uint8Array.of(255, 127, 0),
  });
  assert.deepEqual(said({ event: "mark", mark: { name: "m1" } }), { event: "mark", name: "m1" });
  assert.deepEqual(said({ event: "clear" }), { event: "clear" });
  const wrong = [
    "", "null", "[]", "{", '{"event":"clear"}', '{"event":"clear","streamSid":"MZ3"}', new ArrayBuffer(1),
    ...["{}", '{"payload":""}', '{"payload":"?"}', '{"payload":1}'].map(
      (media) => `{"event":"media","streamSid":"MZ2","media":${media}}`,
    ),
    '{"event":"mark","streamSid":"MZ2"}', '{"event":"stop","streamSid":"MZ2"}',
  ];
  for (const text of wrong) assert.throws(() => stream.receive(text), StreamError, String(text));
});

const CUSHION = CUSHION_MS * 8;

test("media plays in order, a mark comes back when all before it has played", () => {
  const playout = new Playout(TELEPHONE);
  playout.add(new Uint8Array(300).fill(1));
  assert.deepEqual(playout.mark("first"), []);
  playout.add(new Uint8Array(100).fill(2));
  assert.deepEqual(playout.mark("second"), []);
  playout.take(CUSHION);
  assert.deepEqual(playout.take(299).marks, []);
  const { heard, marks } = playout.take(2);
  assert.deepEqual([[...heard], marks], [[1, 2], ["first"]]);
  assert.deepEqual(playout.take(99).marks, ["second"]);
  assert.equal(playout.underruns, 0);
  assert.deepEqual([...playout.take(3).heard], [255, 255, 255]);
  assert.equal(playout.underruns, 1);
  assert.deepEqual(playout.mark("third"), ["third"]);
});

test("clear empties it and gives all marks back at once, in order", () => {
  const playout = new Playout(TELEPHONE);
  playout.add(new Uint8Array(CUSHION));
  for (const name of ["a", "b"]) playout.mark(name);
  playout.add(new Uint8Array(CUSHION));
  playout.mark("c");
  assert.deepEqual(playout.clear(), ["a", "b", "c"]);
  assert.equal(playout.waitingMs, 0);
  assert.deepEqual(playout.take(2), { heard: Uint8Array.of(255, 255), marks: [] });
});

test("what comes after silence waits for a moment, so that late messages make no gap", () => {
  const playout = new Playout(TELEPHONE);
  const heard = [];
  // Media of 80 ms every 80 ms, and each but the first late by less than the cushion.
  const late = [0, CUSHION_MS / 2, CUSHION_MS - 1, 3, CUSHION_MS - 1, 0];
  for (let ms = 0; ms < 600; ms++) {
    if (late.some((by, number) => ms === 50 + 80 * number + by)) playout.add(new Uint8Array(640).fill(1));
    heard.push(...playout.take(8).heard);
  }
  const sound = heard.map((byte) => byte === 1).join("").replaceAll("true", "1").replaceAll("false", "0");
  assert.match(sound, /^0+1{3840}0+$/);
  assert.equal(sound.indexOf("1"), 8 * (50 + CUSHION_MS));
});

test("HD plays as much time, in whole samples", () => {
  const playout = new Playout(HD);
  playout.add(new Uint8Array(960).fill(1));
  assert.equal(playout.waitingMs, 20);
  assert.ok(playout.take(CUSHION_MS * 48).heard.every((byte) => byte === 0));
  assert.ok(playout.take(960).heard.every((byte) => byte === 1));
  assert.deepEqual([...playout.take(2).heard], [0, 0]);
  playout.add(new Uint8Array(600 * 48000));
  assert.throws(() => playout.add(new Uint8Array(2)), PlayoutOverflow);
});

test("an HD stream says so, and takes whole samples only", () => {
  const stream = new MediaStream({ ...SIDS, format: HD });
  const start = JSON.parse(stream.open()[1]).start;
  assert.deepEqual(start.mediaFormat, { encoding: "audio/L16", sampleRate: 24000, channels: 1 });
  const frame = JSON.parse(stream.media(new Uint8Array(960))).media;
  assert.equal(Buffer.from(frame.payload, "base64").length, 960);
  const said = (payload) => JSON.stringify({ streamSid: "MZ2", event: "media", media: { payload } });
  assert.deepEqual(stream.receive(said("AQI=")).media, Uint8Array.of(1, 2));
  assert.throws(() => stream.receive(said("AQID")), StreamError);
});

test("ten minutes may wait, no more", () => {
  const playout = new Playout(TELEPHONE);
  playout.add(new Uint8Array(600 * 8000));
  assert.throws(() => playout.add(new Uint8Array(1)), PlayoutOverflow);
});

test("a recording is a WAV, the caller left and the model right", () => {
  const recording = new Recording(TELEPHONE);
  recording.add(Uint8Array.of(0xff, 0x00), Uint8Array.of(0x80, 0x7f));
  const wav = new DataView(recording.toWav());
  assert.equal(wav.byteLength, 44 + 8);
  assert.equal(wav.getUint32(40, true), 8);
  const samples = [0, 1, 2, 3].map((i) => wav.getInt16(44 + 2 * i, true));
  assert.deepEqual(samples, [0, 32124, -32124, 0]);
  assert.equal(wav.getUint32(24, true), 8000);
});

test("an HD recording has its own rate, and twenty minutes", () => {
  const recording = new Recording(HD);
  recording.add(l16.encode([0.5, -1]), l16.encode([0, 0.25]));
  const wav = new DataView(recording.toWav());
  assert.deepEqual([wav.byteLength, wav.getUint32(24, true), wav.getUint32(28, true)], [52, 24000, 96000]);
  const samples = [0, 1, 2, 3].map((i) => wav.getInt16(44 + 2 * i, true));
  assert.deepEqual(samples, [16384, 0, -32768, 8192]);
  assert.deepEqual([recording.maxSeconds, new Recording(TELEPHONE).maxSeconds], [1200, 3600]);
});
