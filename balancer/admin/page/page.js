"use strict";
// Asks /api/v1/status every second and follows /api/v1/events. Everything is put in as text: names and paths come from strangers.

const PERIOD = 1000;      // ms between two looks
const KEPT = 60;          // looks in a line of requests per second
const EVENTS = 200;       // kept on the page
const GRAVE = new Set(["crashed", "hold", "start failed", "unhealthy", "ejected", "drain timeout", "proxy died",
  "proxy stuck", "reload failed", "rolled back"]);
const before = new Map(); // backend slot -> {total, at, rates}

function put(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${s % 60}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor(s / 60) % 60}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s / 3600) % 24}h`;
}

function size(bytes) {
  if (bytes === null) return "–";
  for (const unit of ["B", "K", "M", "G"]) {
    if (bytes < 1024 || unit === "G") return `${bytes < 10 && unit !== "B" ? bytes.toFixed(1) : Math.round(bytes)}${unit}`;
    bytes /= 1024;
  }
}

function state(b) {
  if (b.takes_requests) return ["ready", "good"];
  if (b.phase === "hold") return ["on hold", "bad"];
  if (b.intent === "drain" && b.phase === "running") return ["draining", "wait"];
  if (b.phase !== "running") return [b.phase, b.phase === "stopped" ? "bad" : "wait"];
  return [b.health, b.health === "unknown" ? "wait" : "bad"];
}

function health(b) {
  const parts = [];
  if (b.probe) parts.push(`probe ${b.probe.result} ${duration(b.probe.age_seconds)} ago in ${(b.probe.duration_seconds * 1000).toFixed(1)} ms` +
    (b.probe.status === null ? "" : `, status ${b.probe.status}`) + (b.probe.reason ? `: ${b.probe.reason}` : ""));
  if (b.heartbeat_seconds !== null && b.heartbeat_seconds !== undefined) parts.push(`heartbeat ${duration(b.heartbeat_seconds)} ago`);
  return parts.join("\n");
}

function rate(b, at) {
  const last = before.get(b.name) || {total: b.requests_total, at: at - PERIOD, rates: []};
  if (at > last.at) {
    const now = Math.max(0, (b.requests_total - last.total) / ((at - last.at) / 1000));
    before.set(b.name, {total: b.requests_total, at, rates: [...last.rates, now].slice(-KEPT)});
  }
  return before.get(b.name).rates;
}

function line(rates, most) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("width", "110"); svg.setAttribute("height", "18"); svg.setAttribute("aria-hidden", "true");
  const points = rates.map((r, i) => `${(110 - (rates.length - 1 - i) * (110 / KEPT)).toFixed(1)},${(17 - 16 * r / most).toFixed(1)}`);
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  drawn.setAttribute("points", points.join(" "));
  svg.append(drawn);
  return svg;
}

function pool(p, at) {
  const section = put("section");
  const title = put("h2", p.name);
  const able = p.backends.filter(b => b.takes_requests).length;
  title.append(put("small", `${p.policy} · ${able} of ${p.backends.length} take requests`));
  const table = put("table");
  const head = table.createTHead().insertRow();
  for (const name of ["backend", "state", "requests/s", "in flight", "requests", "weight", "restarts", "up", "memory", "CPU", "pid", "address"])
    head.append(put("th", name));
  const most = Math.max(1, ...p.backends.flatMap(b => rate(b, at)));
  const body = table.createTBody();
  for (const b of p.backends) {
    const row = body.insertRow();
    const [word, colour] = state(b);
    const rates = before.get(b.name).rates;
    const shown = put("td", word, `dot ${colour}`);
    shown.title = health(b);
    row.append(put("td", b.group ? `${b.name} (${b.group})` : b.name), shown);
    const cell = put("td", rates[rates.length - 1].toFixed(rates[rates.length - 1] < 10 ? 1 : 0), "rate");
    cell.append(line(rates, most));
    row.append(cell, put("td", b.in_flight), put("td", b.requests_total), put("td", b.weight), put("td", b.restarts, b.restarts ? "wait" : ""),
      put("td", b.pid === null ? "–" : duration(b.uptime_seconds)), put("td", size(b.memory_bytes)),
      put("td", b.cpu_percent === null ? "–" : `${Math.round(b.cpu_percent)}%`), put("td", b.pid ?? "–"), put("td", b.address));
  }
  const scroll = put("div", undefined, "scroll");
  scroll.append(table);
  section.append(title, scroll);
  const suspects = (p.suspects || []).slice(0, 3).map(s => s.request);
  if (suspects.length) section.append(put("p", `in flight when backends crashed: ${suspects.join(", ")}`, "bad"));
  return section;
}

async function look() {
  const trouble = document.getElementById("trouble");
  try {
    const answer = await fetch("/api/v1/status", {cache: "no-store", signal: AbortSignal.timeout(5000)});
    if (!answer.ok) throw new Error(`the API answers ${answer.status}`);
    const status = await answer.json();
    const connections = status.proxies.reduce((sum, p) => sum + p.connections, 0);
    document.getElementById("about").textContent =
      `${status.version} · up ${duration(status.uptime_seconds)} · ${status.listeners.map(l => l.address).join(", ")} · ` +
      `${status.proxies.length} prox${status.proxies.length === 1 ? "y" : "ies"}, ${connections} connections · ${status.config}`;
    document.getElementById("pools").replaceChildren(...status.pools.map(p => pool(p, performance.now())));
    trouble.textContent = "";
  } catch (error) {
    trouble.textContent = `no word from the balancer: ${error.message}`;
  }
  setTimeout(look, PERIOD);
}

function tell(e) {
  const list = document.getElementById("events");
  const item = put("li");
  item.append(put("time", new Date(e.time * 1000).toLocaleTimeString()));
  item.append(put("span", e.text, GRAVE.has(e.event) ? "bad" : ""));
  list.prepend(item);
  while (list.childElementCount > EVENTS) list.lastElementChild.remove();
}

// Not EventSource: events carry their kind as the stream's event name, and that asks for a listener for each kind there may ever be.
async function follow() {
  try {
    const answer = await fetch("/api/v1/events?last=50", {cache: "no-store"});
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    document.getElementById("events").replaceChildren();
    for (let rest = "";;) {
      const {done, value} = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data: ")) tell(JSON.parse(line.slice(6)));
    }
  } catch (error) {
    console.warn("events:", error.message); // `look` says on the page when the balancer is gone
  }
  setTimeout(follow, 2 * PERIOD);
}

document.addEventListener("DOMContentLoaded", () => { look(); follow(); });
