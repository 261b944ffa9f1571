// A call's last minute as a strip, on a canvas. Colours come from the style sheet.

const colours = {};
export function colour(name) {
  colours[name] ??= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  return colours[name];
}
addEventListener("themechange", () => {
  for (const name of Object.keys(colours)) delete colours[name];
});

/** The canvas's context and size in CSS pixels, ready and empty; null while it isn't shown. */
function blank(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return null;
  const scale = devicePixelRatio || 1;
  const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

const QUIET_DB = -60;
/** 0 to 1, for a level in dB of full scale. */
export const loudness = (db) => Math.max(0, Math.min(1, 1 - db / QUIET_DB));

/** What one sample may stand for: a gap in the connection is no sound. */
const SHORTEST_S = 0.25, LONGEST_S = 2.5;

const MARKS = { turn: "text", "barge-in": "interruption", failure: "bad", recovered: "good", ready: "line-strong", "first-audio": "line-strong" };

/**
 * The last `span` seconds: the caller above the line, the model below. `samples` have at, caller and
 * model (dB) and gated (0 to 1), and stand for the time since the one before, which is longer with many
 * calls; `marks` have at_s and kind.
 */
export function drawStrip(canvas, samples, marks, now, span) {
  const on = blank(canvas);
  if (!on) return;
  const { context, width, height } = on;
  const middle = height / 2, reach = middle - 8;
  const x = (at) => width - ((now - at) / span) * width;
  context.fillStyle = colour("line");
  context.fillRect(0, middle - 0.5, width, 1);
  for (const [index, { at, caller, model, gated }] of samples.entries()) {
    const since = Math.max(SHORTEST_S, Math.min(LONGEST_S, at - (samples[index - 1]?.at ?? at)));
    const step = (since / span) * width, left = x(at) - step + 0.5, bar = Math.max(1, step - 1);
    const up = Math.max(1, loudness(caller) * reach), down = Math.max(1, loudness(model) * reach);
    context.fillStyle = colour(gated > 0.5 ? "gated" : "caller");
    context.fillRect(left, middle - 1 - up, bar, up);
    context.fillStyle = colour("model");
    context.fillRect(left, middle + 1, bar, down);
  }
  for (const mark of marks) {
    const at = x(mark.at_s);
    if (at < 0 || at > width) continue;
    context.fillStyle = colour(MARKS[mark.kind] ?? "muted");
    const isTurn = mark.kind === "turn"; // there are many: a dot between the two sides is enough
    if (!isTurn) context.fillRect(at - 0.75, 4, 1.5, height - 8);
    context.beginPath();
    context.arc(at, isTurn ? middle : 4, 3, 0, 7);
    context.fill();
  }
}
