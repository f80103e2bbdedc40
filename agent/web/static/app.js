// The little that htmx does not do. Everything works without it, but for live views.
"use strict";

// Each request of htmx names the session's form token.
document.addEventListener("htmx:configRequest", (event) => {
  const token = document.querySelector("meta[name=csrf]");
  if (token) event.detail.headers["X-CSRF-Token"] = token.content;
});

// `data-confirm`: what is destructive asks once more.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
}, true);

// `data-check-all="name"`: a checkbox that sets all others of that name.
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.checkAll;
  if (!name) return;
  for (const box of event.target.closest("form, table").querySelectorAll(`input[name="${CSS.escape(name)}"]`)) {
    if (!box.disabled) box.checked = event.target.checked;
  }
});

// `data-copy="#id"`: put an element's text on the clipboard.
document.addEventListener("click", (event) => {
  const from = event.target.dataset?.copy;
  if (!from || !navigator.clipboard) return;
  navigator.clipboard.writeText(document.querySelector(from).textContent.trim()).then(() => {
    event.target.textContent = "Copied";
  });
});

// `data-keep-open`: what somebody opened or closed stays so when a live part is replaced.
const held = new Map();
document.addEventListener("toggle", (event) => {
  const details = event.target;
  if (details.id && details.closest("[data-keep-open]")) held.set(details.id, details.open);
}, true);
document.addEventListener("htmx:afterSwap", (event) => {
  for (const details of event.target.querySelectorAll("details[id]")) {
    if (held.has(details.id)) details.open = held.get(details.id);
  }
});
// A live view that is over is loaded once more: its buttons are others now.
document.addEventListener("htmx:sseClose", (event) => {
  if (event.detail.type === "message") window.location.reload();
});
