"use strict";
// Tells the gateway what was done with an item of the slate that is shown.
const slate = document.getElementById("slate");
slate?.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-kind]");
  if (!button) return;
  const card = button.closest("[data-item]");
  const said = card.querySelector(".said");
  const buttons = card.querySelectorAll("button");
  buttons.forEach((other) => (other.disabled = true));
  const act = {
    event_id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`,
    user_id: slate.dataset.person,
    item_id: card.dataset.item,
    kind: button.dataset.kind,
    request_id: slate.dataset.request,
  };
  try {
    const answer = await fetch("/feedback", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(act),
    });
    if (!answer.ok) throw new Error(answer.status);
    card.classList.add(act.kind);
    said.textContent = slate.dataset[act.kind];
  } catch {
    buttons.forEach((other) => (other.disabled = false));
    said.textContent = slate.dataset.failed;
  }
});
