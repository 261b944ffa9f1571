// How loud a recording is, all along. It is decoded as it comes, a minute at a time: however long a
// call was, no more of it than that is ever in memory as sound.

const PER_S = 25;
const PAGES = 60; // of a second each
const GRANULES_HZ = 48000;
const RATE_HZ = 8000;

/**
 * The peaks of an Ogg Opus file: { peaks: a Float32Array for each side, duration }. `told` hears how
 * much of it has been read, 0 to 1. Throws if it can't be fetched, or this browser can't decode it.
 */
export async function peaksOf(url, told = () => {}, signal = undefined) {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error(`the bridge answers ${answer.status}`);
  const size = Number(answer.headers.get("Content-Length")) || Infinity;
  const peaks = [[], []];
  let head = [], pages = [], skip = 0, begin = 0, end = 0, read = 0;
  const decode = async () => {
    const sound = await new OfflineAudioContext(2, 1, RATE_HZ).decodeAudioData(await new Blob([...head, ...pages]).arrayBuffer());
    peaks.forEach((side, channel) => add(side, sound.getChannelData(Math.min(channel, sound.numberOfChannels - 1)), begin));
    [begin, pages] = [end, []];
    told(Math.min(1, read / size));
  };
  for await (const page of pagesOf(answer.body)) {
    read += page.length;
    if (head.length < 2) { // OpusHead and OpusTags (RFC 7845)
      if (!head.length) skip = new DataView(page.buffer, page.byteOffset).getUint16(27 + page[26] + 10, true);
      head.push(page);
      continue;
    }
    pages.push(page);
    const granules = Number(new DataView(page.buffer, page.byteOffset).getBigInt64(6, true));
    if (granules >= 0) end = Math.max(0, granules - skip) / GRANULES_HZ; // -1: no packet ends here
    if (pages.length >= PAGES) await decode();
  }
  if (pages.length) await decode();
  return { peaks: peaks.map((side) => Float32Array.from({ length: Math.ceil(end * PER_S) }, (_, at) => side[at] ?? 0)), duration: end };
}

/** The loudest sample of each piece of time, in its place. */
function add(side, samples, begin) {
  const step = RATE_HZ / PER_S;
  for (let at = 0; at < samples.length; at += step) {
    let loudest = 0;
    for (let one = at; one < Math.min(at + step, samples.length); one += 1) loudest = Math.max(loudest, Math.abs(samples[one]));
    side[Math.round(begin * PER_S + at / step)] = loudest;
  }
}

/** The pages of an Ogg stream (RFC 3533, 6), whatever pieces it comes in. */
async function* pagesOf(stream) {
  const reader = stream.getReader();
  let kept = new Uint8Array();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(kept.length + value.length);
    joined.set(kept);
    joined.set(value, kept.length);
    kept = joined;
    for (let size = pageSize(kept); size; size = pageSize(kept)) {
      yield kept.slice(0, size);
      kept = kept.subarray(size);
    }
  }
}

/** Of the page that these bytes begin with; 0 if more are needed. */
function pageSize(bytes) {
  if (bytes.length < 27) return 0;
  if (String.fromCharCode(...bytes.subarray(0, 4)) !== "OggS") throw new Error("the recording is damaged");
  const table = bytes.subarray(27, 27 + bytes[26]);
  const size = 27 + bytes[26] + table.reduce((sum, one) => sum + one, 0);
  return table.length === bytes[26] && bytes.length >= size ? size : 0;
}
