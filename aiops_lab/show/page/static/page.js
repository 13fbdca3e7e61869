// Keeps an open page up to date: what is marked data-live is fetched anew when the server says that
// something has changed. Without this script the page works, too, and reloads itself.
"use strict";
(() => {
  const EVERY_MS = 15000; // figures change without an event, too
  const AGAIN_MS = 30000; // after there was no room for another listener
  const shown = new Map(); // what the server last sent for each part
  const live = document.getElementById("live");
  let busy = false;
  let again = false;
  let state = null;

  const local = new Intl.DateTimeFormat([], { timeStyle: "medium" });
  const day = new Intl.DateTimeFormat([], { dateStyle: "medium" });

  function tellTimes(root) {
    for (const time of root.querySelectorAll("time:not([data-utc])")) {
      const moment = new Date(time.dateTime);
      if (isNaN(moment)) continue;
      const utc = time.textContent;
      const isToday = day.format(moment) === day.format(new Date());
      time.dataset.utc = utc;
      time.title = utc;
      const here = isToday ? local.format(moment) : `${day.format(moment)} ${local.format(moment)}`;
      time.textContent = `${here} (${isToday ? utc.slice(11) : utc})`;
    }
  }

  function swap(next) {
    document.title = next.title;
    for (const old of document.querySelectorAll("[data-live]")) {
      const part = next.getElementById(old.id);
      if (!part || shown.get(old.id) === part.innerHTML) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.id : null;
      shown.set(old.id, part.innerHTML);
      old.replaceChildren(...part.childNodes);
      tellTimes(old);
      if (focused) document.getElementById(focused)?.focus();
    }
  }

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
      tell(answer.ok);
    } catch {
      tell(false);
    }
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }

  function tell(isReached) {
    live.textContent = isReached ? "live" : "the server does not answer";
    live.className = isReached ? "on" : "off";
  }

  for (const part of document.querySelectorAll("[data-live]")) shown.set(part.id, part.innerHTML);
  tellTimes(document);
  tell(true);

  // The number that a kind of fault needs.
  const kind = document.getElementById("fault-kind");
  const amount = document.getElementById("fault-amount");
  kind?.addEventListener("change", () => {
    amount.value = { delay: "1000", error: "100", hang: "" }[kind.value];
    amount.disabled = kind.value === "hang";
  });

  // Only while it is seen: a browser holds few connections to one server, and this is one of them.
  let events = null;
  const address = `${document.body.dataset.events}?tab=${tab()}`;
  function tab() {
    try {
      sessionStorage.aiopsTab ??= Math.random().toString(36).slice(2);
      return sessionStorage.aiopsTab;
    } catch {
      return ""; // it may not be kept: the stream of a page that was left ends a little later
    }
  }
  function listen() {
    events?.close();
    events = document.hidden ? null : new EventSource(address);
    events?.addEventListener("state", (event) => {
      if (state !== null && state !== event.data) refresh();
      state = event.data;
    });
    events?.addEventListener("error", (event) => {
      const isRefused = event.target.readyState === EventSource.CLOSED;
      if (isRefused && event.target === events) setTimeout(listen, AGAIN_MS);
    });
  }
  listen();
  // Also while there is no room for another listener, which ends the stream.
  setInterval(() => {
    if (!document.hidden) refresh();
  }, EVERY_MS);
  document.addEventListener("visibilitychange", () => {
    listen();
    if (!document.hidden) refresh();
  });
  addEventListener("pagehide", () => events?.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) listen();
  });
})();
