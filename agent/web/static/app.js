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

// `data-keep-in="#id"`: somebody who was chosen from a search stays chosen when the search goes on.
document.addEventListener("change", (event) => {
  const keep = event.target.dataset?.keepIn;
  if (!keep || !event.target.checked) return;
  const label = event.target.closest("label");
  const box = document.querySelector(keep);
  const twin = box.querySelector(`input[value="${CSS.escape(event.target.value)}"]`);
  if (twin) { twin.checked = true; label.remove(); } else { box.append(label); }
});

// `data-people`: addresses are proposed while somebody types; the last one of several counts.
let asking;
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-people]")) return;
  const list = document.getElementById(event.target.getAttribute("list"));
  const text = event.target.value.split(",").pop().trim();
  clearTimeout(asking);
  if (!list || text.length < 2) return;
  asking = setTimeout(async () => {
    const answer = await fetch(list.dataset.from + encodeURIComponent(text));
    if (answer.ok) list.innerHTML = await answer.text();
  }, 200);
});

// `data-to`: a form that only chooses a page; `data-action` with `data-fills`: one whose choice stands in its address.
document.addEventListener("submit", (event) => {
  const to = event.target.dataset.to;
  if (!to) return;
  event.preventDefault();
  window.location.assign(to + encodeURIComponent(event.target.querySelector("select").value));
});
document.addEventListener("change", (event) => {
  const form = event.target.matches("[data-fills]") ? event.target.closest("form[data-action]") : null;
  if (form) form.action = form.dataset.action.replace("*", encodeURIComponent(event.target.value));
});

// `data-sortable`: rows are dragged; their numbers follow. By keyboard the numbers themselves are changed.
for (const body of document.querySelectorAll("[data-sortable]")) {
  let dragged = null;
  body.addEventListener("dragstart", (event) => { dragged = event.target.closest("tr"); });
  body.addEventListener("dragover", (event) => {
    const over = event.target.closest("tr");
    if (!dragged || !over || over === dragged) return;
    event.preventDefault();
    const after = event.clientY > over.getBoundingClientRect().top + over.offsetHeight / 2;
    over[after ? "after" : "before"](dragged);
    [...body.querySelectorAll("input[name=number]")].forEach((input, index) => { input.value = index + 1; });
  });
  body.addEventListener("dragend", () => { dragged = null; });
}

// `data-rich`: a text area with simple HTML is edited as it will look. What is sent is the text area's.
const TOOLS = [["bold", "Bold"], ["italic", "Italic"], ["insertUnorderedList", "List"], ["createLink", "Link"]];
for (const area of document.querySelectorAll("textarea[data-rich]")) {
  const frame = document.createElement("div");
  frame.className = "rich";
  const tools = document.createElement("div");
  tools.className = "tools";
  const text = document.createElement("div");
  text.className = "text";
  text.contentEditable = "true";
  text.setAttribute("role", "textbox");
  text.setAttribute("aria-multiline", "true");
  text.setAttribute("aria-label", document.querySelector(`label[for="${CSS.escape(area.id)}"]`)?.textContent ?? "Text");
  // Parsed without running anything; only simple elements are taken over.
  const parsed = new DOMParser().parseFromString(area.value, "text/html");
  for (const bad of parsed.querySelectorAll("script, style, iframe, object, embed, form, img, svg")) bad.remove();
  for (const element of parsed.body.querySelectorAll("*")) {
    for (const attribute of [...element.attributes]) if (attribute.name !== "href") element.removeAttribute(attribute.name);
  }
  text.append(...parsed.body.childNodes);
  for (const [command, title] of TOOLS) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => {
      const address = command === "createLink" ? window.prompt("Address of the link", "https://") : null;
      if (command === "createLink" && !/^(https?:|mailto:)/i.test(address ?? "")) return;
      text.focus();
      document.execCommand(command, false, address);
      text.dispatchEvent(new Event("input"));
    });
    tools.append(button);
  }
  text.addEventListener("input", () => { area.value = text.textContent.trim() ? text.innerHTML : ""; });
  frame.append(tools, text);
  area.hidden = true;
  area.after(frame);
}
