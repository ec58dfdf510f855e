// The question that a link to an action leads to. A page that leads here could have its reader click, or press Enter, at
// the very moment at which the question appears: the answer counts only when it was there to be read.
"use strict";

const yes = document.querySelector("button.go");
let timer = 0;

function arm() {
  yes.disabled = true;
  clearTimeout(timer);
  timer = setTimeout(() => (yes.disabled = false), 800);
}

addEventListener("focus", arm);
addEventListener("pageshow", arm);
document.addEventListener("visibilitychange", arm);
arm();
