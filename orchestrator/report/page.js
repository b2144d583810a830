"use strict";
// One player for the whole grid: choose a prompt, then a cell.
(() => {
  const grid = document.getElementById("grid");
  const player = grid.querySelector("audio");
  if (!player) return;
  const status = grid.querySelector("[role=status]");
  const prompts = [...grid.querySelectorAll("input")];
  const buttons = [...grid.querySelectorAll("button")];
  let chosen = null;

  function play() {
    if (!chosen) return;
    const place = prompts.findIndex((prompt) => prompt.checked);
    const clip = chosen.dataset.clips.split(" ")[place];
    const text = prompts[place].parentElement.textContent.trim();
    const what = `${chosen.getAttribute("aria-label")}. “${text}”`;
    player.pause();
    if (clip === "-") {
      player.removeAttribute("src");
      status.textContent = `No audio kept: ${what}`;
      return;
    }
    player.src = `data:${player.dataset.type};base64,${clip}`;
    status.textContent = what;
    // A browser may refuse to start, or a second choice may come first; the player says so itself.
    player.play().catch(() => {});
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      chosen = button;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      play();
    });
  }
  for (const prompt of prompts) prompt.addEventListener("change", play);

  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  grid.querySelector("tbody").addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const cell = event.target.closest("td");
    if (!step || !cell) return;
    const rows = cell.closest("tbody").rows;
    const row = rows[cell.parentElement.sectionRowIndex + step[0]];
    // The base has one button only, and a scale that was not scored has none.
    const next = row && row.cells[cell.cellIndex + step[1]];
    const target = row && ((next && next.querySelector("button")) || row.querySelector("button"));
    if (!target || target === event.target) return;
    event.preventDefault();
    target.focus();
  });
})();
