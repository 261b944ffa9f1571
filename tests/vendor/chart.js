// A chart of uPlot's, and what of it can be seen.
async () => {
  const { default: uPlot } = await import("/vendor/uplot/uPlot.esm.js");
  const style = document.createElement("link");
  Object.assign(style, { rel: "stylesheet", href: "/vendor/uplot/uPlot.min.css" });
  const styled = new Promise((resolve, reject) => Object.assign(style, { onload: resolve, onerror: reject }));
  document.head.append(style);
  await styled;
  const options = { width: 300, height: 200, scales: { x: { time: false } }, series: [{}, { stroke: "red", width: 4 }] };
  const chart = new uPlot(options, [[0, 1, 2], [3, 1, 2]], document.body);
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const canvas = chart.root.querySelector("canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return {
    position: getComputedStyle(chart.root.querySelector(".u-wrap")).position,
    red: data.some((value, at) => at % 4 === 0 && value > 250 && !data[at + 1] && data[at + 3] > 250),
  };
}
