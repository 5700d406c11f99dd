/* Habitue in a shop's page, for shops without a tracker (docs/snippet.md). Apache-2.0
 *
 *   <script async src="https://events.shop.example/habitue.js" data-key="hbw_..."></script>
 *
 * What is seen waits in a queue, goes to POST /v1/b, and stays in the browser until the server has said 200: each
 * message has an id, so what is sent twice is stored once. Nothing is kept or sent while consent is asked for.
 */
(function (window, document) {
  "use strict";
  var script = document.currentScript;
  if (!script || !script.dataset.key || (window.habitue && window.habitue.track)) return;
  var options = script.dataset, host = options.host || new URL(script.src).origin, early = window.habitue || [];
  var WAIT_MS = 2000, MOST_SENT = 40, MOST_KEPT = 200, SESSION_MS = 30 * 60 * 1000, SEEN_MS = 1000;
  var signal = navigator.globalPrivacyControl || navigator.doNotTrack === "1";
  var agreed = allowed(read("consent") || (options.consent === "ask" || signal ? null : {}));
  var queue = [], sending = false, timer = 0, pause = 0, user = null, memory = {};

  // What the browser remembers; where it may not, this page does.

  function read(name) {
    try { return JSON.parse(window.localStorage.getItem("habitue." + name)); } catch (e) { return (memory || {})[name] || null; }
  }
  function write(name, value) {
    try { window.localStorage.setItem("habitue." + name, JSON.stringify(value)); } catch (e) { memory[name] = value; }
  }
  function random() {
    if (window.crypto.randomUUID) return window.crypto.randomUUID();
    return Array.from(window.crypto.getRandomValues(new Uint8Array(16)), function (b) { return (b + 256).toString(16).slice(1); }).join("");
  }
  function visitor() {
    if (!agreed) return null;
    var id = read("visitor") || random();
    write("visitor", id);
    return id;
  }
  function session() {
    var now = Date.now(), last = read("session");
    if (!last || now - last[1] > SESSION_MS) last = [random(), now];
    write("session", [last[0], now]);
    return last[0];
  }

  function allowed(purposes) { return purposes && purposes.analytics !== false ? purposes : null; }

  // Messages: as Segment writes them.

  function message(type, more) {
    if (!agreed) return;
    var context = { page: { path: window.location.pathname }, sessionId: session() };
    if (Object.keys(agreed).length) context.consent = { categoryPreferences: agreed };
    user = user || read("user");
    queue.push(Object.assign(
      { type: type, messageId: random(), anonymousId: visitor(), timestamp: new Date().toISOString(), context: context },
      user ? { userId: user } : {}, more));
    if (queue.length >= MOST_SENT) send(false);
    else if (!timer) timer = window.setTimeout(function () { send(false); }, Math.max(WAIT_MS, pause));
  }
  function track(name, properties) { message("track", { event: name, properties: properties || {} }); }
  function identify(id, traits) {
    user = String(id);
    if (agreed) write("user", user);
    message("identify", { traits: traits || {} });
  }
  function reset() { // somebody logs out: what follows is a stranger's
    user = null;
    ["user", "visitor", "session"].forEach(function (name) { write(name, null); });
  }
  function consent(purposes) {
    agreed = purposes;
    write("consent", purposes);
    message("identify", { traits: {} }); // a withdrawal is said too, and then nothing more
    send(false);
    agreed = allowed(purposes);
    begin();
  }

  // Sending.

  function send(leaving) {
    window.clearTimeout(timer);
    timer = 0;
    if (sending && !leaving) return;
    var kept = (read("kept") || []).concat(queue.splice(0)), some = kept.slice(0, MOST_SENT);
    if (!some.length) return;
    write("kept", kept.slice(-MOST_KEPT)); // the oldest go where a server is away for long
    var body = JSON.stringify({ batch: some, writeKey: options.key, sentAt: new Date().toISOString() });
    if (leaving) { // nobody waits for the answer: they stay kept, and the server knows them when they come again
      navigator.sendBeacon(host + "/v1/b", new Blob([body], { type: "text/plain" }));
      return;
    }
    sending = true;
    window.fetch(host + "/v1/b", { method: "POST", body: body, headers: { "Content-Type": "text/plain" }, keepalive: body.length < 60000 })
      .then(function (answer) {
        if (answer.ok || (answer.status < 500 && answer.status !== 429 && answer.status !== 408)) {
          if (!answer.ok) window.console.warn("habitue: the server refused " + some.length + " messages with " + answer.status);
          done(some, 0);
        } else done([], 1000 * (answer.headers.get("Retry-After") || 0) || 2 * pause + WAIT_MS);
      }, function () { done([], 2 * pause + WAIT_MS); });
  }
  function done(some, wait) {
    var ids = some.map(function (m) { return m.messageId; });
    var left = (read("kept") || []).filter(function (m) { return ids.indexOf(m.messageId) < 0; });
    write("kept", left);
    sending = false;
    pause = Math.min(wait, 600000);
    if ((left.length || queue.length) && !timer) timer = window.setTimeout(function () { send(false); }, pause || 0);
  }

  // A page: what it is about, how long it is in sight, how far it is read.

  var path, product, since, dwelled, deepest, told;

  function arrive() {
    path = window.location.pathname;
    product = about();
    since = document.visibilityState === "visible" ? Date.now() : 0;
    dwelled = deepest = told = 0;
    message("page", { name: document.title, properties: { path: path, title: document.title } });
    if (product) track("Product Viewed", product);
    var asked = new URLSearchParams(window.location.search), words = (options.search || "q,query,search,s,keyword").split(",");
    var query = words.map(function (w) { return asked.get(w); }).filter(Boolean)[0];
    if (query) track("Products Searched", { query: query });
  }
  function leave() {
    if (since) dwelled += Date.now() - since;
    since = 0;
    var of = product ? { product_id: product.product_id } : {};
    if (dwelled >= 500) track("Dwelled", Object.assign({ dwell_s: Math.round(dwelled / 100) / 10 }, of));
    if (deepest > told) track("Scrolled", Object.assign({ scroll: Math.round(100 * (told = deepest)) / 100 }, of));
    dwelled = 0;
  }
  function about() { // the product of the page: data-habitue-product, else JSON-LD of schema.org
    var named = document.querySelector("[data-habitue-product]");
    if (named) return { product_id: named.dataset.habitueProduct };
    var found = null;
    document.querySelectorAll('script[type="application/ld+json"]').forEach(function (part) {
      try {
        var all = JSON.parse(part.textContent);
        [].concat(all["@graph"] || all).forEach(function (p) { if (!found && [].concat(p["@type"]).indexOf("Product") >= 0) found = p; });
      } catch (e) { window.console.warn("habitue: a JSON-LD script of this page is no JSON"); }
    });
    if (!found) return null;
    var offer = [].concat(found.offers || {})[0], brand = found.brand || {};
    return {
      product_id: String(found.sku || found.productID || found.mpn || found["@id"]), name: found.name, brand: brand.name || (brand + "" === brand ? brand : undefined),
      category: found.category, price: offer.price === undefined ? offer.lowPrice : offer.price, currency: offer.priceCurrency
    };
  }

  // Marked elements: data-habitue-item="SKU" (in a list: data-habitue-list, -position, -recommendation), -add, -remove.

  var shown = {}, watcher, waiting = new Map();

  function marked(element) {
    var item = element.closest && element.closest("[data-habitue-item]");
    if (!item) return null;
    var list = item.closest("[data-habitue-list]"), whole = item.closest("[data-habitue-recommendation]"), p = { product_id: item.dataset.habitueItem };
    if (list) p.list_id = list.dataset.habitueList;
    if (item.dataset.habituePosition) p.position = Number(item.dataset.habituePosition);
    if (whole) p.recommendation_id = whole.dataset.habitueRecommendation;
    return p;
  }
  function watch() {
    if (!window.IntersectionObserver) return;
    watcher = watcher || new IntersectionObserver(function (seen) {
      seen.forEach(function (entry) {
        window.clearTimeout(waiting.get(entry.target));
        if (entry.isIntersecting) waiting.set(entry.target, window.setTimeout(function () { impression(entry.target); }, SEEN_MS));
      });
    }, { threshold: 0.5 });
    document.querySelectorAll("[data-habitue-item]").forEach(function (item) { if (!waiting.has(item)) { waiting.set(item, 0); watcher.observe(item); } });
  }
  function impression(item) {
    watcher.unobserve(item);
    var p = marked(item), key = JSON.stringify([p.list_id, p.recommendation_id]);
    if (!shown[key]) {
      shown[key] = [];
      window.setTimeout(function () { // those that come into sight together are one event
        track("Product List Viewed", { list_id: p.list_id, recommendation_id: p.recommendation_id, products: shown[key] });
        delete shown[key];
      }, 300);
    }
    shown[key].push({ product_id: p.product_id, position: p.position });
  }

  var clicks = [], touch = null;

  function click(event) {
    var near = event.target, p = marked(near), now = Date.now();
    ["add", "remove"].forEach(function (what) {
      var button = near.closest && near.closest("[data-habitue-" + what + "]");
      if (!button) return;
      var id = button.dataset[what === "add" ? "habitueAdd" : "habitueRemove"] || (p || product || {}).product_id;
      track(what === "add" ? "Product Added" : "Product Removed", Object.assign({}, p, { product_id: id, quantity: Number(button.dataset.habitueQuantity) || 1 }));
    });
    if (p && near.closest("a,button") && !near.closest("[data-habitue-add],[data-habitue-remove]")) track("Product Clicked", p);
    clicks = clicks.filter(function (c) { return now - c[0] < 1000 && Math.abs(c[1] - event.clientX) + Math.abs(c[2] - event.clientY) < 30; });
    if (clicks.push([now, event.clientX, event.clientY]) === 3) track("Rage Clicked", p || {});
  }
  function swipe(event) {
    var end = event.changedTouches[0], x = end.clientX - touch.x, y = end.clientY - touch.y, p = marked(event.target);
    if (p && Math.abs(x) > 40 && Math.abs(x) > 2 * Math.abs(y)) track("Swiped", Object.assign({ direction: x < 0 ? "left" : "right" }, p));
  }

  // Beginning.

  var begun = false;

  function begin() {
    if (begun || !agreed) return;
    begun = true;
    arrive();
    watch();
    new MutationObserver(watch).observe(document.documentElement, { childList: true, subtree: true });
    document.addEventListener("click", click, true);
    document.addEventListener("touchstart", function (e) { touch = { x: e.touches[0].clientX, y: e.touches[0].clientY }; }, { passive: true });
    document.addEventListener("touchend", swipe, { passive: true });
    window.addEventListener("scroll", function () {
      var page = document.documentElement;
      deepest = Math.max(deepest, Math.min(1, (window.scrollY + window.innerHeight) / page.scrollHeight));
    }, { passive: true });
    document.addEventListener("visibilitychange", function () {
      if (document.visibilityState === "visible") since = Date.now();
      else { leave(); send(true); }
    });
    window.addEventListener("pagehide", function () { leave(); send(true); });
    ["pushState", "replaceState"].forEach(function (name) { // a page that changes without being loaded
      var before = window.history[name];
      window.history[name] = function () { before.apply(this, arguments); turn(); };
    });
    window.addEventListener("popstate", turn);
  }
  function turn() {
    window.setTimeout(function () { if (window.location.pathname !== path) { leave(); arrive(); } }, 0);
  }

  var calls = { track: track, identify: identify, consent: consent, reset: reset, flush: function () { send(false); } };
  window.habitue = Object.assign({ push: function (call) { calls[call[0]].apply(null, call.slice(1)); }, visitor: visitor }, calls);
  begin();
  if (early.forEach) early.forEach(window.habitue.push);
})(window, document);
