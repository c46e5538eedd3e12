// The map of a sample's cells, and an outline drawn around some of them.
"use strict";

const canvas = document.getElementById("map");
const pen = canvas.getContext("2d");
const field = document.getElementById("outline");
// Okabe and Ito's colours, which people with any colour vision can tell apart; review.css names them for the legend.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f6000", "#000000"];
const gates = [...document.querySelectorAll("[data-outline]")].map((link) => JSON.parse(link.dataset.outline));
let cells = null;
let drawn = [];

// From the map to the canvas and back.
function toCanvas([x, y]) {
  const [[left, bottom], [right, top]] = cells.corners;
  return [((x - left) / (right - left)) * canvas.width, ((top - y) / (top - bottom)) * canvas.height];
}

function toMap(event) {
  const [[left, bottom], [right, top]] = cells.corners;
  const place = canvas.getBoundingClientRect();
  const x = left + ((event.clientX - place.left) / place.width) * (right - left);
  const y = top - ((event.clientY - place.top) / place.height) * (top - bottom);
  return [Number(x.toPrecision(5)), Number(y.toPrecision(5))];
}

function outline(corners, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.beginPath();
  corners.forEach((corner, i) => (i ? pen.lineTo(...toCanvas(corner)) : pen.moveTo(...toCanvas(corner))));
  pen.closePath();
  pen.stroke();
}

function draw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.globalAlpha = cells.points.length > 3000 ? 0.35 : 0.7;
  const size = cells.points.length > 3000 ? 2 : 4;
  cells.points.forEach((point, i) => {
    const [x, y] = toCanvas(point);
    pen.fillStyle = COLOURS[cells.called[i] % COLOURS.length];
    pen.fillRect(x - size / 2, y - size / 2, size, size);
  });
  pen.globalAlpha = 1;
  for (const gate of gates) outline(gate, "#56616d");
  if (drawn.length > 1) outline(drawn, "#a3261b");
}

canvas.addEventListener("pointerdown", (event) => {
  if (!cells) return;
  canvas.setPointerCapture(event.pointerId);
  drawn = [toMap(event)];
});
canvas.addEventListener("pointermove", (event) => {
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  drawn.push(toMap(event));
  requestAnimationFrame(draw);
});
canvas.addEventListener("pointerup", () => {
  const step = Math.ceil(drawn.length / 300);
  const corners = drawn.filter((_, i) => i % step === 0);
  field.value = corners.length > 2 ? JSON.stringify(corners) : "";
});

fetch(canvas.dataset.points, { headers: { Accept: "application/json" } })
  .then((answer) => answer.json())
  .then((found) => {
    cells = found;
    canvas.dataset.drawn = cells.points.length;
    draw();
  });
