"use strict";
// One item: hear each clip to its end, answer, and hand the answer in until the server has it.
(() => {
  const form = document.getElementById("room");
  const csrf = document.querySelector("meta[name=csrf]").content;
  const status = form.querySelector(".status");
  const answers = form.querySelector(".answers");
  const sides = [...form.dataset.sides];
  const buttons = new Map(sides.map((side) => [side, form.querySelector(`[data-side=${side}]`)]));
  const players = new Map();
  const heard = new Set();
  const pendingKey = `voxsweep pending ${csrf}`;
  const shownAt = Date.now();
  let plays = 0;
  let sending = false;

  const say = (text) => { status.textContent = text; };
  const pause = (seconds) => new Promise((done) => {
    const timer = setTimeout(done, 1000 * seconds);
    window.addEventListener("online", () => { clearTimeout(timer); done(); }, { once: true });
  });

  function identifier() {
    // crypto.randomUUID is missing where a page came without TLS.
    return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
  }

  // A request until there is an answer of the server; it says so while there is none.
  async function until(ask) {
    for (let wait = 1; ; wait = Math.min(2 * wait, 15)) {
      try {
        const reply = await ask();
        if (reply.status < 500) return reply;
      } catch { /* no connection */ }
      say(form.dataset.retrying);
      await pause(wait);
    }
  }

  async function load(side) {
    const reply = await until(() => fetch(`clip/${form.dataset.item}/${side}`));
    if (!reply.ok) { location.replace("./"); return; }
    const player = new Audio(URL.createObjectURL(await reply.blob()));
    const button = buttons.get(side);
    player.addEventListener("ended", () => {
      heard.add(side);
      button.classList.remove("playing");
      button.classList.add("heard");
      button.querySelector(".mark").textContent = form.dataset.heard;
      if (heard.size === sides.length) answers.disabled = false;
    });
    players.set(side, player);
    button.disabled = false;
    if (status.textContent === form.dataset.retrying) say("");
  }

  function play(side) {
    const player = players.get(side);
    if (!player) return;
    for (const [other, each] of players) {
      each.pause();
      buttons.get(other).classList.remove("playing");
    }
    player.currentTime = 0;
    plays += 1;
    buttons.get(side).classList.add("playing");
    buttons.get(side).querySelector(".mark").textContent = form.dataset.playing;
    player.play().catch(() => buttons.get(side).classList.remove("playing"));
  }

  function playNext() {
    const playing = sides.find((side) => buttons.get(side).classList.contains("playing"));
    const last = sides.indexOf(playing);
    const unheard = sides.find((side) => !heard.has(side) && side !== playing);
    play(unheard ?? sides[(last + 1) % sides.length]);
  }

  async function hand(body) {
    sending = true;
    localStorage.setItem(pendingKey, body);
    const reply = await until(() => fetch("answers", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body,
    }));
    localStorage.removeItem(pendingKey);
    sending = false;
    if (reply.status === 409) {
      const { refused } = await reply.json();
      if (refused === "listen_first") { say(form.dataset.listenFirst); return false; }
      if (refused === "stale") { say(form.dataset.stale); await pause(1.5); }
    } else if (reply.ok) {
      say(form.dataset.saved);
    }
    return true;
  }

  async function submit() {
    if (sending) return;
    if (heard.size < sides.length) { say(form.dataset.listenFirst); return; }
    const chosen = form.querySelector("input:checked");
    if (!chosen) { say(form.dataset.chooseFirst); return; }
    const body = JSON.stringify({
      item: Number(form.dataset.item),
      version: Number(form.dataset.version),
      answer: Number(chosen.value),
      submission: identifier(),
      seconds: (Date.now() - shownAt) / 1000,
      plays,
    });
    if (await hand(body)) location.replace("./");
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  for (const [side, button] of buttons) button.addEventListener("click", () => play(side));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const radios = [...answers.querySelectorAll("input")];
    if (event.key === " ") {
      // On a button, space is the button's own.
      if (event.target.tagName === "BUTTON") return;
      event.preventDefault();
      if (!event.repeat) playNext();
    } else if (event.key >= "1" && event.key <= String(radios.length)) {
      if (answers.disabled) { say(form.dataset.listenFirst); return; }
      const radio = radios[Number(event.key) - 1];
      radio.checked = true;
      radio.focus();
    } else if (event.key.startsWith("Arrow") && !answers.disabled && event.target.name !== "answer") {
      event.preventDefault();
      const start = event.key === "ArrowLeft" || event.key === "ArrowUp" ? radios.length - 1 : 0;
      (radios.find((radio) => radio.checked) ?? radios[start]).focus();
      if (!radios.some((radio) => radio.checked)) radios[start].checked = true;
    } else if (event.key === "Enter") {
      if (event.target.tagName === "BUTTON" || event.target.tagName === "A") return;
      event.preventDefault();
      submit();
    } else if (event.key === "Backspace") {
      form.querySelector(".back")?.click();
    }
  });

  (async () => {
    // An answer that this browser could not hand in before it was closed.
    const pending = localStorage.getItem(pendingKey);
    if (pending) { await hand(pending); location.replace("./"); return; }
    await Promise.all(sides.map(load));
  })();
})();
