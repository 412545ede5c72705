"use strict";
// The server renders and escapes; this puts in what has changed, and asks for what an operator wants.
const main = document.getElementById("panels");
const form = document.getElementById("operate");
const status = document.getElementById("status");
const byId = (name) => document.getElementById(name);
const KEY = "recloop-operate";
let source = null, held = false, heard = 0;
const told = {};

function say(state) {
  if (status.dataset.state === state) return;
  status.dataset.state = state;
  status.textContent = status.dataset[state];
  main.classList.toggle("stale", state === "lost");
}

function put(name, html) {
  const place = document.querySelector(`[data-panel="${name}"]`);
  if (!place) return;
  const open = [...place.querySelectorAll("details[open]")].map((one) => one.dataset.key);
  const focused = place.contains(document.activeElement)
    ? [...place.querySelectorAll("[tabindex], summary, a, button")].indexOf(document.activeElement) : -1;
  const scrolled = [...place.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
  place.innerHTML = html;
  for (const one of place.querySelectorAll("details")) one.open = open.includes(one.dataset.key);
  place.querySelectorAll(".scroll").forEach((one, n) => {
    if (scrolled[n]) [one.scrollLeft, one.scrollTop] = scrolled[n];
  });
  if (focused >= 0) place.querySelectorAll("[tabindex], summary, a, button")[focused]?.focus();
  announce(name, place);
  if (name === "rollout") offer();
}

function announce(name, place) {
  const now = place.querySelector("[data-state]");
  if (!now) return;
  if (told[name] !== undefined && told[name] !== now.dataset.state) byId("news").textContent = now.dataset.news;
  told[name] = now.dataset.state;
}

function connect() {
  source?.close();
  if (held) return;
  source = new EventSource(main.dataset.stream);
  source.addEventListener("panel", (event) => {
    const { name, html } = JSON.parse(event.data);
    hear();
    put(name, html);
  });
  source.addEventListener("beat", hear);
  source.onerror = () => {
    setTimeout(() => { if (Date.now() - heard > 4000 && !held) say("lost"); }, 4000);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  };
}

function hear() {
  heard = Date.now();
  say("live");
}

// The rollout: what may be asked stands in its panel.
const standing = () => document.querySelector('[data-panel="rollout"] [data-rollout]')?.dataset;

function offer() {
  const may = (standing()?.actions || "").split(" ").filter(Boolean);
  form.hidden = false;
  for (const button of form.querySelectorAll("[data-action]")) {
    button.hidden = !may.includes(button.dataset.action);
    button.disabled = false;
  }
  byId("idle").hidden = may.length > 0;
  byId("fields").hidden = may.length === 0;
}

function answer(text, bad) {
  byId("answer").textContent = text;
  byId("answer").classList.toggle("bad", bad);
}

async function ask(action, here) {
  const token = byId("token").value.trim(), why = byId("why").value.trim();
  const body = { action, rollout: Number(here.rollout), seen: here.seen, why };
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  try {
    const said = await fetch(form.getAttribute("action"), { method: "POST", headers, body: JSON.stringify(body) });
    const content = await said.json().catch(() => ({}));
    if (said.ok) {
      sessionStorage.setItem(KEY, token);
      byId("why").value = "";
      answer(content.told, false);
      for (const button of form.querySelectorAll("[data-action]")) button.disabled = true; // until it is shown
      setTimeout(offer, 5000);
    } else if (said.status === 401 || said.status === 403) {
      sessionStorage.removeItem(KEY);
      answer(form.getAttribute(`data-refused-${said.status}`), true);
      byId("token").focus();
    } else {
      const words = form.getAttribute(said.status === 409 ? "data-refused-409" : "data-refused-other");
      answer(`${words} ${content.error || said.status}`, true);
    }
  } catch {
    answer(form.dataset.unreachable, true);
  }
}

function wish(button) {
  const here = { ...standing() };
  for (const [name, missing] of [["token", form.dataset.needToken], ["why", form.dataset.needReason]]) {
    if (!byId(name).value.trim()) {
      answer(missing, true);
      byId(name).focus();
      return;
    }
  }
  if (!button.dataset.ask) return ask(button.dataset.action, here);
  byId("question").textContent = button.dataset.ask;
  const sure = byId("sure");
  byId("yes").onclick = () => { sure.close(); ask(button.dataset.action, here); };
  byId("no").onclick = () => sure.close();
  sure.showModal();
  byId("no").focus();
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (button) wish(button);
});
byId("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  byId("token").value = "";
  answer(form.dataset.forgotten, false);
});
byId("hold").addEventListener("click", (event) => {
  held = !held;
  event.target.setAttribute("aria-pressed", String(held));
  event.target.textContent = held ? event.target.dataset.go : event.target.dataset.hold;
  if (held) { source?.close(); say("held"); } else connect();
});
setInterval(() => { if (!held && heard && Date.now() - heard > 15000) { say("lost"); heard = 0; connect(); } }, 3000);
byId("token").value = sessionStorage.getItem(KEY) || "";
for (const place of document.querySelectorAll("[data-panel]")) announce(place.dataset.panel, place);
offer();
connect();
