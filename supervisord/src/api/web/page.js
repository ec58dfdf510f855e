// The status page, live. Without this script everything works by forms and links; with it rows change by themselves,
// buttons do not leave the page, and the keyboard steers.
//
// Rows are made by the server only (row.rs): this file puts them in their place and never builds one.
"use strict";

const list = document.getElementById("list");
const filter = document.getElementById("filter");
const form = document.forms[0];
const lost = document.getElementById("lost");
const message = document.getElementById("message");
const news = document.getElementById("news");
const parser = new DOMParser();
// Tabs of several machines must be told apart.
const HOST = /^(localhost|127\.|\[)/.test(location.hostname) ? "" : `${location.hostname}: `;
const FILTER = `filter ${location.pathname}`; // its name in the memory of this tab
const rows = new Map(); // name → element
const up = new WeakMap(); // <time> of a running process → when it came up, on the clock of performance.now()

const parse = (html) => parser.parseFromString(html, "text/html");
const stateOf = (row) => row.querySelector(".state").textContent;
const visibleRows = () => [...list.querySelectorAll(".row")].filter((row) => !row.hidden && row.offsetParent);

/* Uptime: told once, then counted here. */

function seconds(text) {
  const found = /^(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)$/.exec(text);
  return found && ((+(found[1] || 0) * 24 + +found[2]) * 60 + +found[3]) * 60 + +found[4];
}

function clock(total) {
  const two = (number) => String(number).padStart(2, "0");
  const days = Math.floor(total / 86400);
  const rest = total % 86400;
  const time = `${Math.floor(rest / 3600)}:${two(Math.floor(rest / 60) % 60)}:${two(rest % 60)}`;
  return days === 0 ? time : `${days} day${days === 1 ? "" : "s"}, ${time}`;
}

function tick() {
  // Whether it is still up is not known while nothing comes.
  if (document.hidden || !lost.hidden) return;
  const now = performance.now();
  for (const time of list.getElementsByTagName("time")) {
    const text = clock(Math.max(0, Math.floor((now - up.get(time)) / 1000)));
    if (time.textContent !== text) time.textContent = text;
  }
}

/* Rows. */

function adopt(row) {
  rows.set(row.dataset.name, row);
  const time = row.querySelector("time");
  if (time && !up.has(time)) up.set(time, performance.now() - (seconds(time.textContent) || 0) * 1000);
}

function adoptAll() {
  rows.clear();
  for (const row of list.querySelectorAll(".row")) adopt(row);
}

/** Puts new versions of rows in their places; false when there is no place for one. */
function replaceAll(htmls, told) {
  const pairs = [...parse(htmls.join("")).querySelectorAll(".row")].map((row) => [rows.get(row.dataset.name), row]);
  // Rows that flap must not move those below them: a row does not get lower. All are measured before the first changes.
  const heights = pairs.map(([old]) => (old && !old.hidden && !old.lastElementChild.open ? old.offsetHeight : 0));
  const focus = document.activeElement;
  const focused = focus.closest?.(".row")?.dataset.name;
  pairs.forEach(([old, row], at) => {
    if (!old) return;
    if (heights[at] > (parseFloat(old.style.minHeight) || 0)) old.style.minHeight = `${heights[at]}px`;
    replace(old, row, told);
  });
  if (document.activeElement !== focus && rows.has(focused)) refocus(rows.get(focused), focus);
  return pairs.every(([old]) => old);
}

/** Makes `old` say what `row` says, in place: a button that stays can be pressed while the rest changes. */
function replace(old, row, told) {
  const [before, after] = [stateOf(old), stateOf(row)];
  old.className = row.className;
  old.setAttribute("aria-label", row.getAttribute("aria-label"));
  const [acts, details] = [old.querySelector(":scope > .acts"), old.lastElementChild];
  const fresh = [...row.children];
  [...old.children].forEach((part, at) => {
    if (part === acts) mergeActs(acts, fresh[at]);
    else if (part === details) mergeDetails(details, fresh[at]);
    else if (!part.isEqualNode(fresh[at])) part.replaceWith(fresh[at]);
  });
  adopt(old);
  if (before !== after) {
    old.classList.add("changed");
    told.push([old.dataset.name, after]);
  }
}

/** Buttons and links, known by their class, which stand in one order always. */
function mergeActs(old, fresh) {
  const wanted = [...fresh.children];
  for (const act of [...old.children]) if (!wanted.some((want) => want.className === act.className)) act.remove();
  wanted.forEach((want, at) => {
    if (old.children[at]?.className !== want.className) old.insertBefore(want, old.children[at] ?? null);
  });
}

function mergeDetails(old, fresh) {
  const parts = [...fresh.children];
  const isAlike = old.children.length === parts.length
    && parts.every((part, at) => part.tagName === old.children[at].tagName && part.className === old.children[at].className);
  if (!isAlike) return old.replaceChildren(...parts);
  parts.forEach((part, at) => {
    if (part.className !== "acts" && !part.isEqualNode(old.children[at])) old.children[at].replaceChildren(...part.childNodes);
  });
}

/** Keeps the focus where it was; on the row if that button is gone. */
function refocus(row, old) {
  const same = old.className && row.querySelector(`.${CSS.escape(old.classList[0])}`);
  (same || row).focus({ preventScroll: true });
}

list.addEventListener("animationend", (event) => event.target.classList.remove("changed"));
list.addEventListener("toggle", (event) => event.target.closest(".row")?.style.removeProperty("min-height"), true);
addEventListener("resize", () => { for (const row of rows.values()) row.style.removeProperty("min-height"); });

/** Takes the list anew from the server: processes came or went, or it is another daemon. */
async function refetch() {
  const response = await fetch(at("./"), { headers: { accept: "text/html" } });
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  const page = parse(await response.text());
  const fresh = page.getElementById("list");
  if (!fresh) throw new Error("the server answers something else");
  // Another version of the daemon has other rows, which this script may not understand.
  const script = (of) => of.querySelector('script[src*="page.js"]').getAttribute("src");
  if (script(page) !== script(document)) location.reload();
  const focus = document.activeElement;
  const focused = focus.closest?.(".row")?.dataset.name;
  const closed = new Set([...list.querySelectorAll(".group:not([open])")].map((group) => group.dataset.group));
  const open = new Set([...list.querySelectorAll(".row > details[open]")].map((d) => d.parentNode.dataset.name));
  list.replaceChildren(...[...fresh.childNodes].map((node) => document.adoptNode(node)));
  for (const group of list.querySelectorAll(".group")) if (closed.has(group.dataset.group)) group.open = false;
  adoptAll();
  for (const name of open) rows.get(name)?.querySelector("details").setAttribute("open", "");
  form.elements.token.value = page.forms[0].elements.token.value;
  document.getElementById("daemon").textContent = page.getElementById("daemon").textContent;
  if (rows.has(focused)) refocus(rows.get(focused), focus);
  refresh();
  return page.body.dataset.since;
}

/** Everything that depends on all rows. */
function refresh() {
  const word = filter.value.trim().toLowerCase();
  let running = 0;
  let shown = 0;
  for (const row of rows.values()) {
    if (row.classList.contains("s-running")) running += 1;
    const text = `${row.dataset.name} ${stateOf(row)}`.toLowerCase();
    row.hidden = word !== "" && !word.split(/\s+/).every((part) => text.includes(part));
    if (!row.hidden) shown += 1;
  }
  for (const group of list.querySelectorAll(".group")) {
    const all = [...group.querySelectorAll(".row")];
    const good = all.filter((row) => row.classList.contains("s-running")).length;
    const count = group.querySelector("summary .count");
    count.textContent = `${good} of ${all.length} running`;
    count.classList.toggle("uneven", good < all.length);
    group.hidden = all.every((row) => row.hidden);
  }
  for (const alone of list.querySelectorAll(".alone")) alone.hidden = [...alone.children].every((row) => row.hidden);
  document.getElementById("none").hidden = shown > 0 || word === "";
  document.getElementById("count").textContent = `${running} of ${rows.size} running`;
  const down = rows.size - running;
  document.title = `${down ? `(${down} down) ` : ""}${HOST}Supervisor Status`;
  icon(down ? ([...rows.values()].some((row) => row.matches(".s-fatal, .s-backoff")) ? "#c32f27" : "#a76400") : "#16803c");
  const selected = list.querySelector('.row[tabindex="0"]');
  if (!selected || selected.hidden) select(visibleRows()[0], false);
}

function icon(colour) {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="${colour}"/><path d="M4 5h8M4 8h8M4 11h5" stroke="#fff" stroke-width="1.6" stroke-linecap="round"/></svg>`;
  const url = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  const link = document.querySelector('link[rel="icon"]');
  if (link.href !== url) link.href = url;
}

/* The stream, or what replaces it. */

const FIRST = 8000; // ms within which a stream says something
const SILENCE = 40000; // ms: the server says something every 15 s
const GLANCE = 2000; // ms between two questions while this tab has no stream
const HIDDEN = 30000; // the same while nobody looks: title and icon go on

let since = document.body.dataset.since; // what this page knows
let isHolding = false; // whether this tab may have a stream
let heldBack = 0; // until when no stream is tried: none gets through, a proxy collects them
let patience = 60000; // ms until the next try
let source = null;
let retry = 1000;
let timer = 0;

function connect() {
  source?.close();
  source = null;
  if (!isHolding || Date.now() < heldBack) return wait(glanceAgain, document.hidden ? HIDDEN : GLANCE);
  const stream = new EventSource(at(`ui/changes?since=${encodeURIComponent(since)}`));
  source = stream;
  let hasSpoken = false;
  const hear = (what) => (event) => {
    hasSpoken = true;
    here();
    wait(() => silent(true), SILENCE);
    what?.(event);
  };
  stream.addEventListener("alive", hear());
  stream.addEventListener("fresh", hear(restart));
  stream.onmessage = hear((event) => {
    since = event.lastEventId;
    take(JSON.parse(event.data)).catch(away);
  });
  stream.onerror = () => {
    away();
    // A server that answers with an error is not asked again by the browser. It may have no stream left for us.
    if (stream.readyState === EventSource.CLOSED) later(() => silent(false));
    else wait(() => silent(hasSpoken), FIRST);
  };
  wait(() => silent(hasSpoken), FIRST);
}

function wait(what, time) {
  clearTimeout(timer);
  timer = setTimeout(what, time);
}

/** Nothing has come for too long: the connection is dead, or whatever stands between keeps what comes. */
async function silent(hasSpoken) {
  source?.close();
  if (!hasSpoken && (await glance())) {
    heldBack = Date.now() + patience;
    patience *= 4;
  }
  connect();
}

async function glanceAgain() {
  await glance();
  connect();
}

/** Asks once what has changed; whether there was an answer. */
async function glance() {
  const asked = since;
  try {
    const url = `ui/changes?once=1&since=${encodeURIComponent(asked)}`;
    const response = await fetch(at(url), { signal: AbortSignal.timeout(10000) });
    const text = await response.text();
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    const field = (name) => new RegExp(`^${name}: (.*)$`, "m").exec(text)?.[1];
    if (field("event") === "fresh") since = await refetch();
    else if (since === asked) {
      await take(JSON.parse(field("data")));
      since = field("id");
    }
    here();
    return true;
  } catch {
    away();
    return false;
  }
}

function here() {
  retry = 1000;
  lost.hidden = true;
  document.body.classList.remove("away");
}

function away() {
  if (!lost.hidden) return;
  lost.textContent = "The connection to supervisord is lost; what is shown may be old. Trying again…";
  lost.hidden = false;
  document.body.classList.add("away");
}

function later(what) {
  source?.close();
  wait(what, retry);
  retry = Math.min(retry * 2, 30000);
}

async function restart() {
  source?.close();
  clearTimeout(timer);
  try {
    since = await refetch();
    connect();
  } catch {
    away();
    later(restart);
  }
}

let taking = Promise.resolve();
/** Messages are taken one after the other: a list that is fetched must not overwrite what came later. */
function take(data) {
  taking = taking.catch(() => {}).then(() => apply(data));
  return taking;
}

async function apply(data) {
  const told = [];
  const isComplete = replaceAll(data.rows, told);
  if (!isComplete || rows.size !== data.total) await refetch();
  else if (data.rows.length) refresh();
  const notices = document.getElementById("notices");
  notices.replaceChildren(...parse(data.notices).body.childNodes);
  for (const [name, state] of told) announce(name, state);
}

const HUSH = 4000; // ms between two announcements
const untold = new Map(); // name → state, for those who do not see the page
let hush = 0;

/** Says what has come to rest. What passes, or comes again and again, would only drown the rest. */
function announce(name, state) {
  if (/^(starting|stopping|backoff)$/.test(state)) untold.delete(name);
  else untold.set(name, state);
  hush ||= setTimeout(() => {
    hush = 0;
    if (untold.size) news.textContent = untold.size > 5 ? `${untold.size} processes changed` : [...untold].map((one) => one.join(" ")).join(", ");
    untold.clear();
  }, HUSH);
}

/* Actions. */

const REFLEX = 500; // ms after which a click is meant for what is shown
let focused = performance.now(); // when this window came to the front
addEventListener("focus", () => (focused = performance.now()));

form.addEventListener("submit", async (event) => {
  const button = event.submitter;
  if (!button?.hasAttribute("formaction")) return;
  event.preventDefault();
  const name = button.closest(".row")?.dataset.name;
  const url = button.getAttribute("formaction");
  // A window that another site has just put under the pointer is not asked for what was clicked there.
  const isReflex = performance.now() - focused < REFLEX && !url.endsWith("refresh");
  const question = button.dataset.confirm?.replace("all", `all ${rows.size}`) ?? (isReflex && `${button.textContent} ${name}?`);
  if (question && !(await confirmed(question, button.textContent))) return;
  button.disabled = true;
  await perform(url);
  button.disabled = false;
  if (name && document.activeElement === document.body) rows.get(name)?.focus({ preventScroll: true });
});

async function perform(url) {
  try {
    const body = new URLSearchParams({ token: form.elements.token.value });
    const response = await fetch(at(url), { method: "POST", body, headers: { accept: "text/plain" } });
    const text = await response.text();
    if (response.ok) say(text, /^ERROR|fault \[/.test(text));
    else say(parse(text).querySelector("main p")?.textContent || text || `the server answers ${response.status}`, true);
  } catch {
    say("supervisord does not answer", true);
  }
  // Who asks for it wants to see what is, not what we believe.
  if (url.endsWith("refresh")) await restart();
}

let fading = 0;
function say(text, isBad = false) {
  message.textContent = text;
  message.classList.toggle("bad", isBad);
  message.hidden = false;
  clearTimeout(fading);
  if (!isBad) fading = setTimeout(() => (message.hidden = true), 10000);
}
message.addEventListener("click", () => (message.hidden = true));

function dialog(title, fill) {
  const box = document.createElement("dialog");
  box.setAttribute("aria-label", title);
  const heading = document.createElement("h2");
  heading.textContent = title;
  box.append(heading);
  fill(box);
  document.body.append(box);
  box.addEventListener("close", () => box.remove());
  box.showModal();
  return box;
}

function confirmed(question, yes) {
  return new Promise((resolve) => {
    let answer = false;
    const shown = performance.now();
    const box = dialog(question, (box) => {
      const acts = document.createElement("p");
      acts.className = "acts";
      for (const [label, value] of [["Cancel", false], [yes, true]]) {
        const button = document.createElement("button");
        button.textContent = label;
        if (value) button.className = "go";
        button.addEventListener("click", () => {
          if (value && performance.now() - shown < REFLEX) return;
          answer = value;
          box.close();
        });
        acts.append(button);
      }
      box.append(acts);
    });
    box.addEventListener("close", () => resolve(answer));
  });
}

/* The keyboard. */

const KEYS = [
  ["j k ↓ ↑", "next, previous process"], ["Enter", "details"], ["s", "start"], ["x", "stop"], ["r", "restart"],
  ["l e", "log, stderr"], ["/", "filter"], ["Esc", "clear filter and message"], ["?", "this help"],
];

function help() {
  dialog("Keys", (box) => {
    const table = document.createElement("dl");
    for (const [key, what] of KEYS) {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      const kbd = document.createElement("kbd");
      kbd.textContent = key;
      dt.append(kbd);
      dd.textContent = what;
      table.append(dt, dd);
    }
    const close = document.createElement("button");
    close.textContent = "Close";
    close.addEventListener("click", () => box.close());
    const acts = document.createElement("p");
    acts.className = "acts";
    acts.append(close);
    box.append(table, acts);
  });
}

/** Makes a row the one that Tab and the keys mean. */
function select(row, focus = true) {
  if (!row) return;
  for (const old of list.querySelectorAll('.row[tabindex="0"]')) old.tabIndex = -1;
  row.tabIndex = 0;
  if (focus) {
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }
}

function move(step) {
  const all = visibleRows();
  const at = all.indexOf(document.activeElement.closest?.(".row"));
  const first = all.findIndex((row) => row.tabIndex === 0);
  select(all[at < 0 ? Math.max(first, 0) : Math.min(Math.max(at + step, 0), all.length - 1)]);
}

/** Does something to the row that has the focus; without one it shows which row it would have been. */
function press(selector) {
  const row = document.activeElement.closest?.(".row");
  if (!row) return move(0);
  const target = row.querySelector(`.acts ${selector}`);
  if (target) target.click();
  else say(`${row.dataset.name} is ${stateOf(row)}: there is no button for that now`, true);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  if (event.target === filter) {
    if (event.key === "Escape") { filter.value = ""; refresh(); }
    if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") { move(0); event.preventDefault(); }
    return;
  }
  const isRow = event.target.classList?.contains("row");
  // A key that is held down is one wish.
  if (event.repeat && "sxrle".includes(event.key)) return event.preventDefault();
  switch (event.key) {
    case "j": case "ArrowDown": move(1); break;
    case "k": case "ArrowUp": move(-1); break;
    case "s": press(".start"); break;
    case "x": press(".stop"); break;
    case "r": press(".restart"); break;
    case "l": press(".log"); break;
    case "e": press(".err"); break;
    case "/": filter.focus(); filter.select(); break;
    case "?": help(); break;
    case "Escape": message.hidden = true; filter.value = ""; refresh(); break;
    case "Enter": {
      if (!isRow) return;
      const details = event.target.querySelector("details");
      details.open = !details.open;
      break;
    }
    default: return;
  }
  event.preventDefault();
});

list.addEventListener("focusin", (event) => {
  const row = event.target.closest(".row");
  if (row && row.tabIndex !== 0) select(row, false);
});
filter.addEventListener("input", refresh);
// Who comes back from a log finds what he had filtered.
addEventListener("pagehide", () => memory((all) => all.setItem(FILTER, filter.value)));

/** Uses the memory of this tab, which a browser may deny. */
function memory(use) {
  try { return use(sessionStorage); } catch { return null; }
}

document.addEventListener("visibilitychange", tick);

document.body.classList.add("live");
filter.hidden = false;
filter.value = memory((all) => all.getItem(FILTER)) ?? "";
if (!matchMedia("(pointer: coarse)").matches) filter.placeholder = "Filter (press /)";
if (!message.hidden) say(message.textContent, message.classList.contains("bad"));
document.getElementById("keys").hidden = false;
if (location.search) history.replaceState(null, "", location.pathname);
adoptAll();
refresh();
setInterval(tick, 1000);
connect();
holdStream(() => { isHolding = true; connect(); }, () => { isHolding = false; connect(); });
