"use strict";
// The server renders and escapes; this only fetches the same part again.
const live = document.getElementById("live");
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/dashboard/live");
    if (answer.ok) live.innerHTML = await answer.text();
    live.classList.toggle("stale", !answer.ok);
  } catch {
    live.classList.add("stale");
  }
}
setInterval(refresh, 2000);
