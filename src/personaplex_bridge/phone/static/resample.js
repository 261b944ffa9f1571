// Changing the sample rate of a stream, with a low-pass filter that keeps to the lower rate's band.
//
// A polyphase filter: the input, as if it had a rate that both rates divide, goes through a
// windowed sinc, of which only those taps are computed that fall on an input sample. What comes
// out doesn't depend on how the input is cut into pieces.

const PASS = 0.85; // of the band: 3.4 kHz at 8 kHz, the telephone's (ITU-T G.712); 10.2 at 24
const KAISER_BETA = 7; // -70 dB beyond the band
const WIDTH = 4.5; // the filter's length times the width of its edge: what beta takes

export class Resampler {
  constructor(fromHz, toHz) {
    const common = greatestCommonDivisor(fromHz, toHz);
    const stopHz = Math.min(fromHz, toHz) / 2; // nothing above may fold back, or be mirrored
    const passHz = PASS * stopHz;
    this.up = toHz / common;
    this.down = fromHz / common;
    this.taps = Math.ceil((fromHz * WIDTH) / (stopHz - passHz)); // of the input, for one sample of the output
    // Twice the cut-off, of the input's rate.
    this.phases = designPhases((passHz + stopHz) / fromHz, this.up, this.taps);
    this.history = new Float32Array(this.taps - 1);
    this.position = 0; // of the next output sample, in steps of 1/up input samples
  }

  // All of the output that the input so far makes, delayed by half the filter's length.
  process(input) {
    const { up, down, taps, phases } = this;
    const signal = new Float32Array(this.history.length + input.length);
    signal.set(this.history);
    signal.set(input, this.history.length);
    const span = input.length * up;
    const output = new Float32Array(Math.max(0, Math.ceil((span - this.position) / down)));
    for (let at = 0; at < output.length; at++, this.position += down) {
      const phase = phases[this.position % up];
      const begin = Math.floor(this.position / up);
      let sum = 0;
      for (let tap = 0; tap < taps; tap++) sum += phase[tap] * signal[begin + tap];
      output[at] = sum;
    }
    this.position -= span;
    this.history = signal.slice(input.length);
    return output;
  }
}

// For each phase the taps, the one for the oldest input sample first; each sums up to 1, so that
// a constant stays one.
function designPhases(cutoff, up, taps) {
  const middle = (taps - 1) / 2;
  return Array.from({ length: up }, (_, phase) => {
    const weights = Float32Array.from({ length: taps }, (_, tap) => {
      const away = tap - middle - phase / up;
      const window = kaiser(away / (middle + 1));
      return window * cutoff * sinc(cutoff * away);
    });
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight) => weight / sum);
  });
}

function kaiser(x) {
  return Math.abs(x) >= 1 ? 0 : bessel(KAISER_BETA * Math.sqrt(1 - x * x)) / bessel(KAISER_BETA);
}

// The modified Bessel function of the first kind, order 0.
function bessel(x) {
  let sum = 1;
  for (let term = 1, k = 1; term > sum * 1e-9; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
