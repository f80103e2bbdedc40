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
