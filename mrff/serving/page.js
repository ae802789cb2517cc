"use strict";
// The token comes behind the address's #, which browsers send to nobody.
const token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
const place = (id) => document.getElementById(id);

async function asked(path) {
  const answer = await fetch(path, { headers: { Authorization: "Bearer " + token } });
  const said = await answer.json();
  if (!answer.ok) {
    const detail = typeof said.detail === "string" ? said.detail : JSON.stringify(said.detail);
    throw new Error(answer.status === 401
      ? "This page needs the address that mrff serve printed, with its token." : detail);
  }
  return said;
}

function named(movers) {
  return movers.slice(0, 2).map((m) => (m.liked ? "+" : "−") + m.item).join("; ");
}

function fill(list, lines, told) {
  place(list).replaceChildren(...lines.map((line) => {
    const entry = document.createElement("li");
    entry.textContent = told ? told(line) : line.item;
    const why = line.raised_by && named(line.raised_by);
    if (why) {
      const reason = document.createElement("div");
      reason.className = "why";
      reason.textContent = "because of " + why;
      entry.append(reason);
    }
    return entry;
  }));
}

async function show() {
  const user = "v1/users/" + encodeURIComponent(place("user").value), top = place("top").value;
  const [history, mine, popular] = await Promise.all([
    asked(user + "/history?last=20"),
    asked(user + "/recommendations?explain=true&top=" + top),
    asked(user + "/popular?top=" + top),
  ]);
  fill("history", history, (line) => (line.liked ? "+ " : "− ") + line.item);
  fill("mine", mine.items);
  fill("popular", popular);
  place("order").textContent = "Ordered by " + mine.ordered_by + ".";
  place("lists").hidden = false;
}

function guarded(work) {
  place("problem").hidden = true;
  return work().catch((error) => {
    place("lists").hidden = true;
    place("problem").textContent = error.message;
    place("problem").hidden = false;
  });
}

async function suggest() {
  const users = await asked("v1/users?start=" + encodeURIComponent(place("user").value));
  place("users").replaceChildren(...users.map((user) => new Option(user, user)));
  return users;
}

async function begin() {
  const about = await asked("health");
  place("about").textContent = `Run ${about.run}, model of round ${about.best_round}: ` +
    `${about.users.toLocaleString("en")} users, ${about.items.toLocaleString("en")} items.`;
  place("top").value = Math.min(place("top").value, about.items);
  const users = await suggest();
  if (!place("user").value && users.length) {
    place("user").value = users[0];
    await show();
  }
}

place("ask").addEventListener("submit", (event) => { event.preventDefault(); guarded(show); });
place("user").addEventListener("input", () => guarded(suggest));
guarded(begin);
