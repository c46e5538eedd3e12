// Labels by keyboard, mouse or touch. Every label is sent at once, and again with the same key until it is answered.
"use strict";

const list = document.getElementById("cells");
const told = document.getElementById("told");
const boxes = list ? [...list.querySelectorAll("input[name=row]")] : [];
const base = list ? `/samples/${list.dataset.sample}` : "";
const labels = new Map(
  [...document.querySelectorAll("[data-act=label]")].map((button) => [Number(button.dataset.label), button.dataset.name]),
);
const ATTEMPTS = 6;
let at = 0; // the cell that keys act on
let sent = Promise.resolve(); // actions go out one after the other, so that undo undoes the last

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function tell(words, fault = false) {
  told.textContent = words;
  told.classList.toggle("fault", fault);
}

function wait(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

async function post(path, body) {
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": list.dataset.csrf },
    body: JSON.stringify({ key: newKey(), ...body }),
  };
  for (let attempt = 1; ; attempt += 1) {
    let answer = null;
    try {
      answer = await fetch(base + path, request);
    } catch (error) {
      if (attempt === ATTEMPTS) throw new Error("the server does not answer; what is marked was not saved");
    }
    if (answer?.ok) return answer.json();
    if (answer && answer.status < 500) throw new Error((await answer.json()).error);
    if (attempt === ATTEMPTS) throw new Error("the server failed; what is marked was not saved");
    tell("No answer; trying again …", true);
    await wait(250 * 2 ** attempt);
  }
}

function show(answer) {
  for (const box of boxes) {
    if (!(box.value in answer.labels)) continue;
    const label = answer.labels[box.value];
    box.closest("li").querySelector(".mine").textContent = label === null ? "" : labels.get(label);
    if (label === null) delete box.dataset.mine;
    else box.dataset.mine = label;
  }
}

function targets() {
  const chosen = boxes.filter((box) => box.checked);
  return chosen.length ? chosen : boxes.slice(at, at + 1);
}

function go(to) {
  at = Math.max(0, Math.min(boxes.length - 1, to));
  boxes[at].focus();
}

function act(path, body, chosen, words) {
  const items = chosen.map((box) => box.closest("li"));
  for (const item of items) item.classList.add("saving");
  sent = sent.then(async () => {
    try {
      const answer = await post(path, body);
      show(answer);
      for (const item of items) item.classList.remove("failed");
      tell(words(Object.keys(answer.labels).length));
      progressSoon();
    } catch (error) {
      for (const item of items) item.classList.add("failed");
      tell(`Not saved: ${error.message}`, true);
    }
    for (const item of items) item.classList.remove("saving");
  });
}

function label(value) {
  const chosen = targets();
  const rows = chosen.map((box) => Number(box.value));
  const name = value === null ? "as called" : labels.get(value);
  act("/labels", { rows, label: value, source: list.dataset.source }, chosen, (count) =>
    count === 1 ? `Cell ${rows[0]}: ${name}` : `${count} cells: ${name}`,
  );
  for (const box of chosen) box.checked = false;
  const last = boxes.indexOf(chosen[chosen.length - 1]);
  const next = document.getElementById("next");
  if (last === boxes.length - 1 && next) next.focus();
  else go(last + 1);
}

function undo() {
  act("/undo", {}, [], (count) => (count ? `Undone: ${count} cell${count > 1 ? "s" : ""}` : "Nothing to undo"));
}

let progressTimer = 0;
function progressSoon(delay = 400) {
  clearTimeout(progressTimer);
  progressTimer = setTimeout(async () => {
    const answer = await fetch(`${base}/progress`, { headers: { Accept: "application/json" } });
    if (answer.ok) document.getElementById("progress").textContent = (await answer.json()).words;
  }, delay);
}

// The nearest cell of the row of cells above or below.
function vertical(direction) {
  const here = boxes[at].closest("li").getBoundingClientRect();
  let best = at;
  let distance = Infinity;
  boxes.forEach((box, index) => {
    const there = box.closest("li").getBoundingClientRect();
    const down = (there.top - here.top) * direction;
    const across = Math.abs(there.left - here.left);
    if (down > 1 && down * 4 + across < distance) [best, distance] = [index, down * 4 + across];
  });
  return best;
}

const moves = {
  ArrowLeft: () => at - 1,
  ArrowRight: () => at + 1,
  ArrowUp: () => vertical(-1),
  ArrowDown: () => vertical(1),
  Home: () => 0,
  End: () => boxes.length - 1,
};

function move(to, selecting) {
  const from = at;
  go(to);
  if (!selecting) return;
  for (let i = Math.min(from, at); i <= Math.max(from, at); i += 1) boxes[i].checked = true;
}

const acts = {
  confirm: () => label(null),
  undo,
  similar: () => location.assign(`${base}/similar/${boxes[at].value}${location.search}`),
  history: () => location.assign(`${base}/history/${boxes[at].value}`),
  help: () => document.getElementById("help").showModal(),
};

function selectAll() {
  const all = boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = !all;
}

function onKey(event) {
  const typing = event.target.closest("select, input:not([name=row]), dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = document.querySelector(`[data-act=label][data-key="${CSS.escape(event.key)}"]`);
  const confirm = document.querySelector("[data-act=confirm]");
  if (event.key in moves) move(moves[event.key](), event.shiftKey);
  else if (event.key === "Enter" && confirm && event.target.name === "row") acts.confirm();
  else if (event.key === "Escape") boxes.forEach((box) => (box.checked = false));
  else if (button) label(Number(button.dataset.label));
  else if (event.key === "u") undo();
  else if (event.key === "s") acts.similar();
  else if (event.key === "h") acts.history();
  else if (event.key === "x") selectAll();
  else if (event.key === "?") acts.help();
  else return;
  event.preventDefault();
}

// A frame drawn with the mouse selects the cells that it touches.
function onPointerDown(down) {
  if (down.pointerType !== "mouse" || down.button !== 0) return;
  let frame = null;
  function drag(event) {
    if (!frame && Math.hypot(event.pageX - down.pageX, event.pageY - down.pageY) < 6) return;
    if (!frame) {
      frame = document.body.appendChild(Object.assign(document.createElement("div"), { id: "frame" }));
    }
    const [left, top] = [Math.min(event.pageX, down.pageX), Math.min(event.pageY, down.pageY)];
    Object.assign(frame.style, { left: `${left}px`, top: `${top}px` });
    Object.assign(frame.style, {
      width: `${Math.abs(event.pageX - down.pageX)}px`,
      height: `${Math.abs(event.pageY - down.pageY)}px`,
    });
  }
  function end() {
    removeEventListener("pointermove", drag);
    removeEventListener("pointerup", end);
    if (!frame) return;
    const drawn = frame.getBoundingClientRect();
    frame.remove();
    for (const box of boxes) {
      const cell = box.closest("li").getBoundingClientRect();
      const apart = cell.right < drawn.left || cell.left > drawn.right || cell.bottom < drawn.top || cell.top > drawn.bottom;
      if (!apart) box.checked = true;
    }
    // The click that ends the drawing would toggle the cell under it.
    const swallow = (event) => event.preventDefault();
    addEventListener("click", swallow, { capture: true });
    setTimeout(() => {
      removeEventListener("click", swallow, { capture: true });
      boxes[at].focus();
    });
  }
  addEventListener("pointermove", drag);
  addEventListener("pointerup", end);
}

if (boxes.length && told) {
  boxes.forEach((box, index) => box.addEventListener("focus", () => (at = index)));
  document.addEventListener("keydown", onKey);
  list.addEventListener("pointerdown", onPointerDown);
  list.addEventListener("dragstart", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("[data-act]")) {
    const name = button.dataset.act;
    button.addEventListener("click", () => (name === "label" ? label(Number(button.dataset.label)) : acts[name]()));
  }
  const unseen = boxes.findIndex((box) => box.dataset.mine === undefined);
  boxes[Math.max(0, unseen)].focus({ preventScroll: true });
  progressSoon(0);
}
