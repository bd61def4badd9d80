/* What HTML cannot do by itself: keys, copying, times in the reader's zone, permalinks, and keeping to the newest. */
(() => {
  "use strict";
  const body = document.body, one = (s, from = document) => from.querySelector(s);
  const all = (s, from = document) => [...from.querySelectorAll(s)];
  /* The page is in one of our languages; the browser may say which kind of it, and so how times are written. */
  const page = document.documentElement.lang, language = navigator.languages.find((one) => one.split("-")[0] === page) ?? page;
  const typing = (e) => e.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");

  /* --- times: written in UTC by the server, here in the zone of the browser ------------------------------------- */
  const full = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
  const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  function localise(from) {
    for (const time of all("time[data-form]", from)) {
      const at = new Date(time.dateTime), form = time.dataset.form;
      time.title = full.format(at);
      if (form === "clock") time.textContent = clock.format(at);
      if (form === "full") time.textContent = full.format(at);
    }
  }
  localise(document);

  /* --- ticks: parts of a page that show what is newest ask again, while somebody looks -------------------------- */
  let over = false;
  function tick(name) {
    if (document.hidden || over) return;
    body.dispatchEvent(new Event(name));
    if (name === "tick" && window.scrollY < 300) body.dispatchEvent(new Event("list-tick"));
  }
  setInterval(tick, 1000, "fast-tick");
  setInterval(tick, 4000, "tick");
  setInterval(tick, 30000, "slow-tick");
  /* The reader was shut out, or what the page shows was removed: it says so, and asks for nothing more by itself. */
  function end(text, there) {
    if (over) return;
    over = true;
    say(text, true);
    const link = document.createElement("a");
    link.href = there;
    link.textContent = there.includes("/sign-in") ? body.dataset.signIn : body.dataset.toSessions;
    one(".toast", said).append(" ", link);
  }
  addEventListener("shut-out", () => end(body.dataset.shutOut, `${body.dataset.prefix}/sign-in?to=${encodeURIComponent(location.pathname.slice(body.dataset.prefix.length) + location.search)}`));
  addEventListener("gone", () => end(body.dataset.gone, `${body.dataset.prefix}/sessions`));
  addEventListener("htmx:config:request", (e) => { if (over && e.detail?.ctx?.sourceElement?.matches("[hx-trigger*=tick]")) e.preventDefault(); });
  addEventListener("htmx:sse:before:connection", (e) => { if (over) e.preventDefault(); });

  /* --- the corner that says what was done ---------------------------------------------------------------------- */
  const said = one("#said");
  function say(text, bad = false) {
    const words = document.createElement("p");
    words.className = bad ? "toast bad" : "toast";
    words.textContent = text;
    said.replaceChildren(words);
  }
  let fading;
  new MutationObserver(() => {
    clearTimeout(fading);
    if (one(".toast:not(.bad)", said)) fading = setTimeout(() => said.replaceChildren(), 6000);
  }).observe(said, { childList: true });
  said.addEventListener("click", () => said.replaceChildren());

  /* --- clicks --------------------------------------------------------------------------------------------------- */
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say(body.dataset.copied);
  }
  document.addEventListener("click", (e) => {
    const copied = e.target.closest("[data-copy]");
    if (copied) { e.preventDefault(); return void copy(copied.dataset.copy); }
    const act = e.target.closest("[data-do]")?.dataset.do;
    if (act === "keys") one("#keys").showModal();
    if (act === "menu") {
      const open = body.classList.toggle("menu-open");
      e.target.closest("[data-do]").setAttribute("aria-expanded", open);
    }
    if (act === "close-drawer") closeDrawer();
    for (const menu of all("details.menu[open], details.ways[open]")) if (!menu.contains(e.target)) menu.open = false;
    const row = e.target.closest("tr[data-row]");
    if (row && !e.target.closest("a, button, input") && !getSelection().toString()) one("a", row)?.click();
  });
  document.addEventListener("change", (e) => {
    if (e.target.matches("select[data-do=submit]")) e.target.form.requestSubmit();
  });

  /* --- the drawer ----------------------------------------------------------------------------------------------- */
  const drawer = one("#drawer");
  let opener = null;
  function closeDrawer() {
    if (drawer.hidden) return false;
    drawer.hidden = true;
    body.classList.remove("drawer-open");
    for (const step of all(".step[aria-expanded]")) step.removeAttribute("aria-expanded");
    opener?.focus({ preventScroll: true });
    return true;
  }
  function openDrawer(step) {
    for (const other of all(".step[aria-expanded]")) other.removeAttribute("aria-expanded");
    step.setAttribute("aria-expanded", "true");
    opener = step;
    history.replaceState(null, "", step.hash);
  }

  /* --- htmx: what came, and what went wrong --------------------------------------------------------------------- */
  document.addEventListener("htmx:before:request", (e) => {
    const source = e.detail?.ctx?.sourceElement ?? e.target;
    if (source.matches?.(".step")) openDrawer(source);
  });
  /* What is put in above the reader must not push away what they read; at the very top no browser sees to it. */
  let above = 0;
  document.addEventListener("htmx:before:swap", (e) => {
    const source = e.detail?.ctx?.sourceElement ?? e.target;
    above = source.closest?.("#rows > .more:first-child") && window.scrollY < 60 ? document.documentElement.scrollHeight : 0;
  });
  document.addEventListener("htmx:after:swap", (e) => {
    localise(document);
    if (above) window.scrollTo(0, window.scrollY + document.documentElement.scrollHeight - above);
    above = 0;
    if (drawer.childElementCount && drawer.hidden && opener?.getAttribute("aria-expanded")) {
      drawer.hidden = false;
      body.classList.add("drawer-open");
      drawer.focus({ preventScroll: true });
    }
    follow();
  });
  document.addEventListener("htmx:after:request", (e) => {
    const ctx = e.detail?.ctx, source = ctx?.sourceElement ?? e.target, status = ctx?.response?.status ?? 0;
    if (source.matches?.("form[data-reset]") && status >= 200 && status < 300) source.reset();
  });
  document.addEventListener("htmx:error", (e) => {
    const source = e.detail?.ctx?.sourceElement;
    if (source && !source.matches?.("[hx-trigger*=tick]")) say(body.dataset.offline, true);
  });
  const link = one("#link");
  let away = false;
  function connection(up) {
    if (!link) return;
    if (!up) { away = true; link.hidden = false; link.textContent = body.dataset.offline; }
    else if (away) { away = false; link.hidden = true; say(body.dataset.online); one(".toast.bad", said)?.remove(); }
  }
  document.addEventListener("htmx:sse:error", () => { if (!over) connection(false); });
  document.addEventListener("htmx:sse:after:message", () => connection(true));
  /* htmx connects again when a stream breaks, but not when its very first request fails: then it is asked anew. */
  const stream = one("[hx-sse\\:connect]");
  let heard = Date.now();
  if (stream) setInterval(() => {
    if (stream._htmx?.sse || document.hidden) heard = Date.now();
    else if (!over && Date.now() - heard > 20000) {
      heard = Date.now();
      connection(false);
      htmx.ajax("GET", stream.getAttribute("hx-sse:connect"), { source: stream });
    }
  }, 2000);

  /* --- permalinks: #412 is the row that record belongs to, wherever it has to be loaded from --------------------- */
  const rows = one("#rows");
  const at = (position) => one(`[data-at~="${position}"]`);
  function goTo(position, again) {
    const row = at(position);
    if (row) {
      for (const other of all(".here")) other.classList.remove("here");
      row.classList.add("here");
      row.scrollIntoView({ block: "center" });
      if (row.matches(".record")) one("details", row).open = true;
      one("a.step", row)?.focus({ preventScroll: true });
    } else if (again) {
      const url = new URL(location);
      url.searchParams.set("at", position);
      location.replace(url);
    }
  }
  if (rows) {
    const wanted = location.hash.match(/^#(\d+)$/)?.[1];
    if (wanted) goTo(wanted, !new URLSearchParams(location.search).has("at"));
    else if (location.hash === "#waiting") one("#waiting").scrollIntoView();
    else if (one("[data-follow]") && !one("#rows > .more:last-child:not(:first-child)")) requestAnimationFrame(() => window.scrollTo(0, document.documentElement.scrollHeight));
    addEventListener("hashchange", () => { const now = location.hash.match(/^#(\d+)$/)?.[1]; if (now) goTo(now, true); });
    /* What came before is loaded as the reader comes near it, not before the page has settled at its place. */
    setTimeout(() => new IntersectionObserver((seen) => {
      if (seen.some((entry) => entry.isIntersecting)) one("#rows > .more:first-child button")?.dispatchEvent(new Event("reached"));
    }, { rootMargin: "400px" }).observe(rows.firstElementChild ?? rows), 400);
  }

  /* What waits here has changed, so the count in the navigation has. */
  let counting;
  const waiting = one("#waiting");
  if (waiting) new MutationObserver(() => {
    clearTimeout(counting);
    counting = setTimeout(() => body.dispatchEvent(new Event("slow-tick")), 500);
  }).observe(waiting, { childList: true, subtree: true });

  /* --- keep to the newest, for whoever reads there ---------------------------------------------------------------- */
  let atEnd = true;
  const nearEnd = () => window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 160;
  addEventListener("scroll", () => { atEnd = nearEnd(); }, { passive: true });
  function follow() {
    if (rows && atEnd && !location.hash) window.scrollTo(0, document.documentElement.scrollHeight);
  }

  /* --- keys --------------------------------------------------------------------------------------------------------- */
  const places = { h: "/", s: "/sessions", a: "/inbox", p: "/playground", g: "/agents", c: "/cost", k: "/keys" };
  let gone = 0;
  function move(by) {
    const list = all("[data-row]").filter((row) => row.offsetParent);
    if (!list.length) return;
    const now = list.findIndex((row) => row.contains(document.activeElement) || row.matches(".here"));
    const next = list[Math.min(list.length - 1, Math.max(0, now < 0 ? (by > 0 ? 0 : list.length - 1) : now + by))];
    for (const other of all(".here")) other.classList.remove("here");
    next.classList.add("here");
    (one("a, summary, input, button", next) ?? next).focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
  function chosen(selector) {
    const here = document.activeElement?.closest?.("[data-row]") ?? one(".here");
    return (here && one(selector, here)) ?? one(selector);
  }
  /* A decision is made where the reader is: when several wait and none is chosen, the key chooses the first instead. */
  function decide(key) {
    const here = document.activeElement?.closest?.("[data-row]") ?? one("[data-row].here");
    const there = here && one(`[data-key=${key}]`, here);
    if (there) return there.click();
    const waiting = all(`[data-row] [data-key=${key}]`);
    if (waiting.length === 1) waiting[0].click();
    else if (waiting.length) choose(waiting[0].closest("[data-row]"));
  }
  function choose(row) {
    for (const other of all(".here")) other.classList.remove("here");
    row.classList.add("here");
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }
  const acts = {
    "/": () => one("#find, [type=search]")?.focus(),
    "?": () => one("#keys")?.showModal(),
    j: () => move(1),
    k: () => move(-1),
    a: () => decide("a"),
    d: () => decide("d"),
    x: () => decide("x"),
    r: () => one("#say")?.focus(),
    f: () => {
      const row = document.activeElement?.closest?.(".row") ?? one(".here");
      let turn = row;
      while (turn && !turn.matches(".turn")) turn = turn.previousElementSibling;
      ((turn && one(".fork", turn)) ?? one("[data-do=fork]"))?.click();
    },
    t: () => one("[data-view-key=t]")?.click(),
    c: () => one("[data-view-key=c]")?.click(),
    e: () => one("[data-view-key=e]")?.click(),
  };
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape") {
      if (typing(e)) return e.target.blur();
      for (const menu of all("details.menu[open], details.ways[open]")) menu.open = false;
      return void closeDrawer();
    }
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && e.target.matches("textarea")) return e.target.form.requestSubmit();
    if (typing(e) || e.ctrlKey || e.metaKey || e.altKey || one("dialog[open]")) return;
    if (Date.now() - gone < 1200 && places[e.key]) {
      gone = 0;
      const there = one(`header nav a[data-key="g ${e.key}"]`);
      if (there) { e.preventDefault(); there.click(); }
      return;
    }
    if (e.key === "g") return void (gone = Date.now());
    const act = acts[e.key];
    if (act) { e.preventDefault(); act(); }
  });

  /* --- the inbox: what is chosen is counted, and the reader stays where the decision was made ------------------------ */
  const inbox = one("#inbox");
  if (inbox) {
    let place = -1;
    const cards = () => all("[data-row]", inbox);
    function count() {
      const many = all("input[name=choose]:checked", inbox).length, batch = one("#batch");
      if (batch) { batch.hidden = !many; one("[data-count]", batch).textContent = many; }
    }
    document.addEventListener("change", (e) => { if (e.target.matches("input[name=choose]")) count(); });
    document.addEventListener("htmx:before:request", (e) => {
      const source = e.detail?.ctx?.sourceElement;
      place = source?.matches("form") ? cards().findIndex((card) => card.contains(source)) : -1;
    });
    document.addEventListener("htmx:after:swap", () => {
      count();
      const now = cards();
      if (place < 0 || one(".here, :focus-within", inbox)) return;
      if (now.length) choose(now[Math.min(place, now.length - 1)]);
      place = -1;
    });
  }

  /* --- how long what runs has been running -------------------------------------------------------------------------- */
  setInterval(() => {
    for (const since of all("[data-since]")) {
      const seconds = Math.max(0, Date.now() - Number(since.dataset.since) / 1000) / 1000;
      since.textContent = seconds < 60 ? `${new Intl.NumberFormat(language, { maximumFractionDigits: seconds < 10 ? 1 : 0 }).format(seconds)}\u00a0s`
        : `${Math.floor(seconds / 60)}\u00a0min ${Math.floor(seconds % 60)}\u00a0s`;
    }
  }, 500);
})();
