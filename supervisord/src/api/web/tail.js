// The page of a log, as it grows. Without this script it shows the end of the log; with it what is written appears.
//
// Text comes as a stream of bytes and becomes text nodes only. Colours are shown, other control characters as signs.
"use strict";

const log = document.getElementById("log");
const state = document.getElementById("state");
const toEnd = document.getElementById("follow");
const wrap = document.getElementById("wrap");
const pause = document.getElementById("pause");

const MOST = 2000000; // characters kept on the page
const PIECE = 16000; // characters of a piece at least
const held = []; // the length of each piece on the page
let open = null; // the piece that grows
let total = 0;
let style = []; // classes of the colours that are on
let kept = ""; // the beginning of a sequence whose end has not come yet
let resume = null; // continues a paused stream
let place = null; // of the byte after the last one on the page: its file and its offset there; null before the first
let decoder = new TextDecoder(); // holds the beginning of a character whose end has not come yet

const AGAIN = 65536; // bytes of the end of the log that are shown where it cannot go on
const SOON = 300; // ms between two streams that belong together
const FIRST = 8000; // ms within which a stream begins
const GLANCE = 2000; // ms between two questions while this tab has no stream

const SIGNS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const sign = (c) => {
  const code = c.charCodeAt(0);
  return code < 32 ? String.fromCharCode(0x2400 + code) : code === 127 ? "\u2421" : "\ufffd";
};

/** The classes after a sequence of colours. */
function dress(codes) {
  for (const code of codes.split(";").map(Number)) {
    if (code === 0) style = [];
    else if (code === 1) style.push("c-b");
    else if (code === 2) style.push("c-d");
    else if (code === 3) style.push("c-i");
    else if (code === 4) style.push("c-u");
    else if (code === 22) style = style.filter((c) => c !== "c-b" && c !== "c-d");
    else if (code === 39) style = style.filter((c) => !/^c-\d/.test(c));
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
      style = style.filter((c) => !/^c-\d/.test(c));
      style.push(`c-${code % 10}`);
    } else if (code === 38 || code === 48) return; // more colours than we have
  }
  style = style.slice(-6);
}

function add(text) {
  text = kept + text.replace(/\r\n/g, "\n");
  const cut = /\u001b(?:\[[ -?]*)?$|\r$/.exec(text);
  kept = cut && cut[0].length < 64 ? cut[0] : "";
  if (kept) text = text.slice(0, -kept.length);
  text.split(/(\u001b\[[ -?]*[@-~])/).forEach((part, at) => {
    if (at % 2 === 0) put(part.replace(/\r\n/g, "\n").replace(SIGNS, sign));
    else if (part.endsWith("m")) dress(part.slice(2, -1));
  });
  while (total > MOST && held.length > 1) {
    total -= held.shift();
    log.firstChild.remove();
  }
  if (toEnd.checked) log.scrollTop = log.scrollHeight;
}

/** Adds text in the colours that are on. A piece ends with a line, so that a browser need not lay out the others anew. */
function put(text) {
  while (text) {
    if (!open) open = piece("div");
    const end = text.indexOf("\n", Math.max(PIECE - held.at(-1), 0)) + 1;
    const now = end ? text.slice(0, end) : text;
    const span = style.length ? document.createElement("span") : null;
    if (span) span.className = style.join(" ");
    span?.append(now);
    open.append(span ?? now);
    held[held.length - 1] += now.length;
    total += now.length;
    text = text.slice(now.length);
    if (end) open = null;
  }
}

function piece(tag) {
  const made = document.createElement(tag);
  log.append(made);
  held.push(0);
  return made;
}

function clear() {
  log.replaceChildren();
  held.length = 0;
  total = 0;
  style = [];
  kept = "";
  open = null;
}

/** Prepares the page for what an answer brings: the next bytes, or the end of a log that it does not know. */
function begin(headers) {
  const [, file, offset] = /^(\d+\.\d+)\.(\d+)$/.exec(headers.get("x-log-position") ?? "") ?? [];
  const leftOut = headers.get("x-log-left-out");
  const goesOn = place && headers.has("x-log-goes-on");
  if (!goesOn || leftOut) decoder = new TextDecoder();
  if (!place) clear();
  else if (!goesOn) note("the log was cleared, or some of what was written meanwhile is gone: this is its end");
  else if (leftOut) note(`${leftOut} bytes left out: they came faster than this page could take them`);
  place = file ? { file, offset: Number(offset) } : null;
}

/** A line that is not of the log. */
function note(text) {
  open = null;
  const line = piece("div");
  line.className = "note";
  line.textContent = text;
}

/** Reads until the stream ends; what is not read while paused waits in the server's file. Whether anything came. */
async function read(signal, query) {
  const from = place ? `&limit=${AGAIN}&from=${place.file}.${place.offset}` : ""; // the last limit counts
  const response = await fetch(at(log.dataset.follow + from + query), { signal });
  isGone = response.status === 404;
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  heard?.();
  say("live");
  const reader = response.body.getReader();
  for (let isFirst = true; ; isFirst = false) {
    const { done, value } = await reader.read();
    while (isPaused() && !signal.aborted) await new Promise((go) => { resume = go; signal.addEventListener("abort", go); });
    if (signal.aborted) return false;
    if (isFirst) begin(response.headers);
    if (done) return !isFirst;
    add(decoder.decode(value, { stream: true }));
    if (place) place.offset += value.length;
  }
}

/** Reads as long as this tab has a stream. */
async function follow() {
  stop = new AbortController();
  const { signal } = stop;
  const began = performance.now();
  // Where nothing begins to come, something collects what comes: from then on we ask again and again.
  const silent = setTimeout(() => { isHeldBack = true; stop.abort(); }, FIRST);
  heard = () => clearTimeout(silent);
  let goesOn = false; // it ended where a file of the log ended, or to leave something out
  try { goesOn = await read(signal, ""); } catch { /* said below */ }
  clearTimeout(silent);
  if (signal.aborted) return;
  if (performance.now() - began > 10000) rest = 1000;
  await (goesOn ? sleep(SOON) : lost());
}

/** Reads what there is now. */
async function glance() {
  heard = null;
  try {
    await read(AbortSignal.timeout(10000), "&once=1");
    await sleep(GLANCE);
  } catch {
    await lost();
  }
}

async function lost() {
  say(isGone ? "this log is gone, waiting for it…" : "connection lost, trying again…");
  await sleep(rest);
  rest = Math.min(rest * 2, 30000);
}

let isHolding = false; // whether this tab may have a stream
let isHeldBack = false; // whether none gets through
let wake = () => {}; // when it may have one
let stop = new AbortController(); // when it may not any more
let isGone = false; // whether there is no such log any more
let heard = null; // when an answer begins
let rest = 1000; // ms before the next try

const sleep = (time) => new Promise((go) => setTimeout(go, time));

async function run() {
  for (;;) {
    if (document.hidden) await new Promise((go) => (wake = go));
    else if (isHolding && !isHeldBack) await follow();
    else await glance();
  }
}

const isPaused = () => pause.getAttribute("aria-pressed") === "true";

function say(text) {
  if (!isPaused()) state.textContent = text;
  state.dataset.text = text;
}

pause.addEventListener("click", () => {
  const paused = !isPaused();
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
  state.textContent = paused ? "paused" : state.dataset.text;
  if (!paused) resume?.();
});
toEnd.addEventListener("change", () => { if (toEnd.checked) log.scrollTop = log.scrollHeight; });
wrap.addEventListener("change", () => {
  log.classList.toggle("wrap", wrap.checked);
  if (toEnd.checked) log.scrollTop = log.scrollHeight;
});
// Scrolling up stops following, scrolling to the end goes on with it. A scroll that nobody made is ours, or that of text
// which turned out to be higher than it was taken for.
let touched = -Infinity; // when a user last did something by which one scrolls
for (const kind of ["wheel", "touchmove", "pointerdown", "pointermove", "keydown"]) {
  log.addEventListener(kind, (event) => {
    if (kind !== "pointermove" || event.buttons) touched = performance.now();
  }, { passive: true });
}
log.addEventListener("scroll", () => {
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  if (isAtEnd) toEnd.checked = true;
  else if (performance.now() - touched < 1500) toEnd.checked = false;
  else if (toEnd.checked) log.scrollTop = log.scrollHeight;
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const box = { f: toEnd, w: wrap, p: pause }[event.key];
  if (box) { box.click(); event.preventDefault(); }
  if (event.key === "Escape") location.href = "./";
});

document.getElementById("controls").hidden = false;
log.classList.add("wrap");
log.scrollTop = log.scrollHeight;
holdStream(() => { isHolding = true; wake(); }, () => { isHolding = false; stop.abort(); });
run();
