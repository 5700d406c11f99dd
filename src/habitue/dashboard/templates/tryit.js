// The recommender inside the page, as apply/tryit.py measured it. A product is `dim` whole numbers of one byte; what is
// ticked is their sum, a product's score the inner product with it times its weight, and the ticked product with the
// largest share in it is the reason.

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function tryIt(part, box) {
  const dim = part.dim, count = part.items.length;
  const vectors = new Int8Array(bytes(part.vectors).buffer), weights = bytes(part.weights);
  const titles = part.items.map((item) => item.title);
  const folded = titles.map((title) => title.toLowerCase());
  const find = box.querySelector("#find"), found = box.querySelector("#found"), legend = box.querySelector("#found-legend");
  const ticked = box.querySelector("#ticked"), answer = box.querySelector("#answer"), clock = box.querySelector("#clock");
  const chosen = new Set([0, 1, 2].filter((item) => item < count));
  const SHOWN = innerWidth < 760 ? 6 : 12, LIST = 10;

  function inner(a, b) {
    let sum = 0;
    for (let k = 0, i = a * dim, j = b * dim; k < dim; k++) sum += vectors[i + k] * vectors[j + k];
    return sum;
  }

  // The ten best products that are not ticked, each with the ticked product that adds most to its score.
  function recommend() {
    const query = new Int32Array(dim);
    for (const item of chosen) for (let k = 0; k < dim; k++) query[k] += vectors[item * dim + k];
    const best = [];
    for (let item = 0, start = 0; item < count; item++, start += dim) {
      let sum = 0;
      for (let k = 0; k < dim; k++) sum += query[k] * vectors[start + k];
      sum *= weights[item];
      if ((best.length === LIST && sum <= best[LIST - 1].score) || chosen.has(item)) continue;
      let place = best.length;
      while (place > 0 && best[place - 1].score < sum) place--;
      best.splice(place, 0, { item, score: sum });
      if (best.length > LIST) best.pop();
    }
    for (const one of best) {
      let most = -Infinity;
      for (const item of chosen) {
        const share = inner(item, one.item);
        if (share > most) { most = share; one.because = item; one.share = (share * weights[one.item]) / one.score; }
      }
    }
    return best.filter((one) => one.score > 0);
  }

  function element(parent, name, text, cls) {
    const made = parent.appendChild(document.createElement(name));
    if (text !== undefined) made.textContent = text;
    if (cls) made.className = cls;
    return made;
  }

  function showAnswer() {
    const start = performance.now();
    const list = chosen.size ? recommend() : [];
    answer.replaceChildren();
    for (const one of list) {
      const line = element(answer, "li");
      element(line, "span", titles[one.item], "title");
      const because = element(line, "span", "because of ", "because");
      element(because, "i", titles[one.because]);
      if (chosen.size > 1 && one.share < 1) because.append(" (" + percent(one.share) + " of its score)");
    }
    const ms = performance.now() - start;
    clock.dataset.ms = String(ms);
    clock.textContent = chosen.size ? "Chosen among " + number(count) + " products in " + number(ms, 1) + " milliseconds, in this page." : "Tick a product to begin.";
  }

  function showTicked() {
    ticked.replaceChildren();
    for (const item of chosen) {
      const button = element(element(ticked, "li"), "button", titles[item]);
      button.type = "button";
      button.setAttribute("aria-label", "Remove " + titles[item]);
      element(button, "span", "\u00d7", "cross").setAttribute("aria-hidden", "true");
      button.addEventListener("click", () => tick(item, false));
    }
    if (!chosen.size) element(ticked, "li", "nothing yet", "soft");
  }

  function showFound() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = [];
    let total = 0;
    for (let i = 0; i < count; i++) {
      if (!words.every((word) => folded[i].includes(word))) continue;
      total++;
      if (hits.length < SHOWN) hits.push(i);
    }
    legend.textContent = !words.length ? "Best known products" : total ? number(total) + (total === 1 ? " product" : " products") + (total > SHOWN ? ", the best known first" : "") : "No product has these words";
    found.replaceChildren();
    for (const item of hits) {
      const label = element(element(found, "li"), "label");
      const input = element(label, "input");
      input.type = "checkbox";
      input.dataset.item = String(item);
      input.checked = chosen.has(item);
      input.addEventListener("change", () => tick(item, input.checked));
      element(label, "span", titles[item]);
    }
  }

  function tick(item, on) {
    if (on) chosen.add(item); else chosen.delete(item);
    showAnswer();
    showTicked();
    const input = found.querySelector('[data-item="' + item + '"]');
    if (input) input.checked = on;
  }

  find.addEventListener("input", showFound);
  for (let run = 0; run < 3; run++) recommend(); // so that the first time shown is not that of compiling the loop
  showFound();
  showTicked();
  showAnswer();
}
