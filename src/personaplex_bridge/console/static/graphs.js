// Charts with axes, by uPlot: delay and lag of a call. Colours come from the style sheet.

import uPlot from "/vendor/uplot/uPlot.esm.js";
import { colour } from "./charts.js";
import { clock } from "./dom.js";

const FONT = "12px system-ui, sans-serif";
const drawn = new Set();

// A chart whose parent is gone is forgotten; who has changed the theme sees the others anew.
addEventListener("themechange", () => {
  for (const chart of drawn) {
    if (chart.root.isConnected) chart.redraw(false);
    else drawn.delete(chart);
  }
});

function graph(parent, height, options, data) {
  const chart = new uPlot({ width: parent.clientWidth || 320, height, legend: { show: false }, ...options }, data, parent);
  new ResizeObserver(() => parent.clientWidth && chart.setSize({ width: parent.clientWidth, height })).observe(parent);
  drawn.add(chart);
  return chart;
}

const line = (name) => ({ stroke: () => colour(name), width: 1.75, points: { show: false } });
const dots = (name) => ({ stroke: () => colour(name), width: 0, paths: () => null, points: { show: true, size: 7, width: 0, fill: () => colour(name) } });

const axis = (options) => ({
  stroke: () => colour("muted"), font: FONT, ticks: { show: false }, gap: 4,
  grid: { stroke: () => colour("line"), width: 1 }, ...options,
});
const milliseconds = axis({ size: 48, space: 26, values: (_, ticks) => ticks.map((ms) => (ms >= 1000 ? `${ms / 1000} s` : ms ? `${ms} ms` : "0")) });
/** From 0, and never so close that noise looks like news. */
const upwards = { range: (_, _low, high) => [0, Math.max(400, (high ?? 0) * 1.1)] };

/**
 * The last `span` seconds of a call: its lag both ways, and how soon each turn was answered.
 * `show(samples, now)` takes samples with at, toModel, toCaller and answered, in ms; null for none.
 */
export function lagGraph(parent, span) {
  let now = 0;
  const chart = graph(parent, 104, {
    cursor: { show: false },
    scales: { x: { time: false, range: () => [now - span, now] }, y: upwards },
    axes: [{ show: false }, milliseconds],
    padding: [8, 2, 8, 0],
    series: [{}, line("caller"), line("model"), dots("text")],
  }, [[], [], [], []]);
  return {
    show(samples, at) {
      now = at;
      chart.setData([samples.map((one) => one.at), ...["toModel", "toCaller", "answered"].map((name) => samples.map((one) => one[name]))]);
    },
  };
}

/** How soon each turn of a call was answered, over all of it: `turns` have at_s and delay_s. */
export function turnsGraph(parent, turns, duration) {
  const tell = document.createElement("p");
  tell.className = "muted small";
  const said = "Point at a turn to read it.";
  tell.textContent = said;
  const chart = graph(parent, 150, {
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 11 } },
    scales: { x: { time: false, range: [0, Math.max(1, duration)] }, y: upwards },
    axes: [axis({ size: 26, space: 60, values: (_, ticks) => ticks.map(clock) }), milliseconds],
    padding: [8, 14, 0, 0],
    series: [{}, { ...line("model"), points: { show: true, size: 7, fill: () => colour("model") } }],
    hooks: {
      setCursor: [({ cursor: { idx } }) => {
        tell.textContent = idx === null || idx === undefined ? said
          : `At ${clock(turns[idx].at_s)} the model answered after ${turns[idx].delay_s.toFixed(2)} s.`;
      }],
    },
  }, [turns.map((turn) => turn.at_s), turns.map((turn) => Math.round(turn.delay_s * 1000))]);
  parent.after(tell);
  return chart;
}
