// Which tabs of this browser are live.
//
// Over HTTP/1.1 a browser opens six connections to a server, for all of its tabs together, and a stream takes one for as
// long as it lasts. So a tab has a stream while it is looked at, and at most HOLDERS have one: those looked at last.
"use strict";

const HOLDERS = 3; // half of the connections are left for everything else
const DOZE = 30000; // ms that a timer of 5 s cannot be late by in a machine that is awake

/** An address below ours, without the name and password that ours may have: with them nothing can be fetched. */
function at(path) {
  const url = new URL(path, location.href);
  url.username = url.password = "";
  return url;
}

/** Calls `begin` when this tab may have a stream, and `end` when it must close it. */
function holdStream(begin, end) {
  const me = String(Math.random());
  const others = new Set(); // tabs that were looked at since this one was
  let channel = null;
  let isHolding = false;
  const give = () => {
    if (isHolding) end();
    isHolding = false;
  };
  const take = () => {
    others.clear();
    channel?.postMessage(me);
    if (!isHolding) begin();
    isHolding = true;
  };
  const look = () => (document.hidden ? give() : take());
  const renew = () => {
    if (isHolding) { give(); take(); }
  };
  const listen = () => {
    try { channel = new BroadcastChannel("supervisor"); } catch { channel = null; /* too old, or denied */ }
    channel?.addEventListener("message", (event) => {
      others.add(event.data);
      if (others.size >= HOLDERS) give();
    });
    look();
  };
  document.addEventListener("visibilitychange", look);
  addEventListener("focus", look);
  // A page that the browser keeps for its button Back would keep its stream too, and is thrown away when it is told something.
  addEventListener("pagehide", () => {
    give();
    channel?.close();
  });
  addEventListener("pageshow", (event) => event.persisted && listen());
  // What was connected when the machine fell asleep, or was in another network, is not any more.
  addEventListener("online", renew);
  let last = Date.now();
  setInterval(() => {
    if (Date.now() - last > DOZE) renew();
    last = Date.now();
  }, 5000);
  listen();
}
