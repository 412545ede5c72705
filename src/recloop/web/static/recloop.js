// recloop: docs/intake.md
(() => {
  const set = document.currentScript.dataset, to = set.to || "/events", key = "recloop";
  const id = () => (crypto.randomUUID?.() ?? `${Date.now()}${Math.random()}`).replace(/[-.]/g, "");
  const now = () => Date.now() * 1e3;
  let queue = [], timer, since, person;
  const later = (ms) => (timer ??= setTimeout(flush, ms));
  const flush = (leaving) => {
    timer = clearTimeout(timer);
    const rows = queue.splice(0, 100);
    if (!rows[0]) return;
    const json = JSON.stringify(rows.map((row) => ({ ...row, sent: now() })));
    const body = new Blob([json], { type: "application/json" });
    if (leaving === 1 && navigator.sendBeacon(to, body)) return;
    fetch(to, { method: "POST", body, keepalive: true })
      .then((a) => (a.status === 429 || a.status > 499 ? Promise.reject() : queue[0] && later(0)))
      .catch(() => {
        queue = rows.concat(queue).slice(0, 500);
        later(5e3);
      });
  };
  const tell = (kind, item_id, value, request_id) => {
    queue.push({ event_id: id(), user_id: person, item_id, kind, value, request_id, ts: now() });
    later(1e3);
  };
  tell.consent = (yes) => {
    if (!yes) localStorage.removeItem(key);
    person = set.person || (yes ? (localStorage[key] ??= "w-" + id()) : "anon." + id());
  };
  window.recloop = tell;
  person = set.person || "anon." + id();
  if ("consent" in set) tell.consent(1);
  addEventListener("click", ({ target }) => {
    const of = (name) => target.closest(`[data-${name}]`)?.dataset[name];
    if (of("kind") && of("item")) tell(of("kind"), of("item"), +of("value") || undefined, of("request"));
  });
  const look = () => {
    if (document.visibilityState === "visible") return (since ??= now());
    if (since && set.item) tell("dwell", set.item, (now() - since) / 1e6, set.request);
    since = null;
    flush(1);
  };
  if (set.item) tell("view", set.item, undefined, set.request);
  addEventListener("visibilitychange", look);
  look();
})();
