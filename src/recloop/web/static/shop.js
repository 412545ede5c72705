"use strict";
// What is dismissed goes without loading the page again; without this script the form does the same.
addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-dismiss]");
  if (!form) return;
  event.preventDefault();
  const said = document.getElementById("said");
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(form.action, { method: "POST", headers: { accept: "application/json" }, body });
    if (!answer.ok) throw new Error(answer.status);
  } catch {
    said.textContent = form.dataset.failed;
    return;
  }
  const card = form.closest("[data-item]");
  const next = card.nextElementSibling ?? card.previousElementSibling;
  said.textContent = form.dataset.dismiss;
  card.remove();
  (next?.querySelector("a") ?? document.getElementById("content")).focus();
});
