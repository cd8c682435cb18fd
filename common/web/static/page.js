// Keeps the page up to date: asks for the same page once a second while it is seen, and changes what is different.
// What comes from others is only ever text: the server escapes it, and nothing here makes HTML of strings.
"use strict";

const PERIOD = 1000;
const LOST_AFTER = 3;
let plot = null, etag = null, failures = 0, timer = 0;

function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  if (old === document.activeElement && old.nodeName === "INPUT") return;
  if (old.classList.contains("plot")) return;
  const before = [...old.childNodes], after = [...fresh.childNodes];
  after.forEach((node, at) => at < before.length ? morph(before[at], node) : old.append(document.importNode(node, true)));
  before.slice(after.length).forEach(node => node.remove());
}

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const numbers = text => text ? text.split(",").map(Number) : [];
const pad = number => String(number).padStart(2, "0");

function time(at, withSeconds) {
  const date = new Date(at * 1000);
  return pad(date.getHours()) + ":" + pad(date.getMinutes()) + (withSeconds ? ":" + pad(date.getSeconds()) : "");
}

function short(count) {
  for (const [power, letter] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]])
    if (count >= power) return Number((count / power).toPrecision(3)) + letter;
  return String(Number(count.toPrecision(3)));
}

function draw() {
  const holder = document.querySelector(".plot");
  if (!holder || typeof uPlot === "undefined") return;
  const data = [numbers(holder.dataset.times), numbers(holder.dataset.rates)];
  if (plot && plot.root.parentNode === holder) {
    plot.setData(data);
    return;
  }
  if (plot) plot.destroy();
  const axis = { stroke: colour("--dim"), font: "12px system-ui, sans-serif", ticks: { show: false } };
  const says = document.createElement("span");
  says.className = "value-at";
  holder.replaceChildren(says);
  plot = new uPlot({
    width: holder.clientWidth, height: holder.clientHeight, padding: [10, 0, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 7 } },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, space: holder.clientWidth < 500 ? 62 : 90, size: 26, values: (chart, ticks) => ticks.map(at => {
        // What would be cut at the edge is left out.
        const { min, max } = chart.scales.x, width = chart.width - 46;
        const place = (at - min) / (max - min) * width;
        const fits = place > 26 && place < width - 10;
        return fits ? time(at, ticks.length > 1 && ticks[1] - ticks[0] < 60) : "";
      }) },
      { ...axis, side: 1, grid: { stroke: colour("--line"), width: 1 }, size: 46, space: 38, values: (_, ticks) => ticks.map(short) },
    ],
    series: [{}, { stroke: colour("--accent"), width: 1.6, fill: colour("--wash"), points: { show: false } }],
    hooks: {
      setCursor: [chart => {
        const at = chart.cursor.idx;
        says.textContent = at == null ? "" : time(chart.data[0][at], true) + "   " + short(chart.data[1][at]) + "/s";
      }],
    },
  }, data, holder);
}

async function refresh() {
  try {
    const answer = await fetch(location.href, { headers: etag ? { "if-none-match": etag } : {}, cache: "no-store", redirect: "error" });
    if (answer.status === 401) return location.reload();
    if (answer.status !== 304) {
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const id of ["main", "state"]) morph(document.getElementById(id), fresh.getElementById(id));
      etag = answer.headers.get("etag");
      draw();
    }
    failures = 0;
  } catch {
    failures += 1;
  }
  document.getElementById("lost").hidden = failures < LOST_AFTER;
  next();
}

function next() {
  clearTimeout(timer);
  if (document.visibilityState === "visible") timer = setTimeout(refresh, PERIOD);
}

document.addEventListener("visibilitychange", next);
addEventListener("resize", () => {
  const holder = document.querySelector(".plot");
  if (plot && holder) plot.setSize({ width: holder.clientWidth, height: holder.clientHeight });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (plot) plot.destroy();
  plot = null;
  draw();
});
draw();
next();
