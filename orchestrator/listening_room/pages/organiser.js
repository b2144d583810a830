"use strict";
// Enrols a rater and shows the link, once.
(() => {
  const form = document.getElementById("invite");
  if (!form) return;
  const status = document.querySelector(".status");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const reply = await fetch("organiser/raters", {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "X-CSRF-Token": document.querySelector("meta[name=csrf]").content,
      },
      body: JSON.stringify({
        name: form.elements.name.value,
        languages: [...form.querySelectorAll("[name=language]:checked")].map((box) => box.value),
      }),
    }).catch(() => null);
    if (!reply?.ok) {
      const why = reply?.status === 422 ? await reply.json().catch(() => ({})) : {};
      status.textContent = why.refused ?? "No link was made. Try again.";
      return;
    }
    const { join } = await reply.json();
    const link = document.createElement("code");
    link.textContent = new URL(join, location.href).href;
    status.replaceChildren(`${form.elements.name.value}: `, link);
    form.elements.name.value = "";
  });
})();
