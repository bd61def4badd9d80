/* Charts: columns over time from data written into the page as JSON, drawn by uPlot in the colours of the theme. */
(() => {
  "use strict";
  const language = document.documentElement.lang;
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 4 });
  const money = new Intl.NumberFormat(language, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", maximumFractionDigits: 4 });
  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  function colour(role) {
    probe.style.color = `var(--${role})`;
    return getComputedStyle(probe).color;
  }
  function moment(seconds, step) {
    const form = step < 86400 ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short", timeZone: "UTC" };
    return new Intl.DateTimeFormat(language, form).format(new Date(seconds * 1000));
  }
  function draw(box) {
    const { data, series, unit, step } = JSON.parse(box.dataset.chart);
    const write = (value) => (value == null ? "" : unit === "usd" ? money.format(value) : number.format(value));
    const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const read = box.nextElementSibling;
    box.replaceChildren();
    const plot = new uPlot({
      width: box.clientWidth,
      height: box.clientHeight,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { range: (u, low, high) => [low - step * 0.6, high + step * 0.6] }, y: { range: (u, low, high) => [0, Math.max(high, unit === "usd" ? (high ? 0.0001 : 0.01) : 1) * 1.08] } },
      axes: [
        { ...axis, grid: { show: false }, values: (u, splits) => splits.map((at) => moment(at, step)), space: 64 },
        { ...axis, size: 58, values: (u, splits) => splits.map((value, n) => (unit === "turns" && value % 1) || (n && write(value) === write(splits[n - 1])) ? "" : write(value)), space: 28 },
      ],
      series: [{}, ...series.map(({ label, role }) => ({ label, stroke: colour(role), fill: colour(role), width: 0, paths: uPlot.paths.bars({ size: [0.82, 64] }), points: { show: false } }))],
      hooks: {
        setCursor: [(u) => {
          const at = u.cursor.idx;
          if (!read) return;
          read.textContent = at == null ? read.dataset.rest ?? "" : `${moment(data[0][at], step)}: ${series.map(({ label }, n) => `${write(data[n + 1][at])} ${label}`).join(" · ")}`;
        }],
      },
    }, data, box);
    box.plot = plot;
  }
  const boxes = () => document.querySelectorAll("[data-chart]");
  const redraw = () => { for (const box of boxes()) draw(box); };
  /* A page that is open asks again: what a chart shows stands beside it, the chart itself is left alone. */
  document.addEventListener("htmx:after:swap", () => {
    for (const box of boxes()) {
      const fresh = box.nextElementSibling?.dataset.fresh;
      if (!fresh || !box.plot) continue;
      const chart = JSON.parse(box.dataset.chart);
      if (JSON.stringify(chart.data) === JSON.stringify(JSON.parse(fresh))) continue;
      box.dataset.chart = JSON.stringify({ ...chart, data: JSON.parse(fresh) });
      draw(box);
    }
  });
  let wait;
  new ResizeObserver(() => { clearTimeout(wait); wait = setTimeout(redraw, 80); }).observe(document.querySelector("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
