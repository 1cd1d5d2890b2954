// The chat page: keeps the conversation in memory and streams answers from /v1/chat/completions.
// Model output only ever becomes text nodes.

const TEMPERATURE = 0.5;
const TOP_P = 0.9;
const SILENCE_MS = 1500; // without a token for so long, ask whether the engine is restarting

const $ = (id) => document.getElementById(id);
const log = $("log"), scroll = $("scroll"), prompt = $("prompt"), send = $("send");

let messages = [];
let running = null; // AbortController of the answer being written
let key = sessionStorage.getItem("key") ?? "";

// ---- talking to the server

class ServerError extends Error {
  constructor(status, detail) {
    super(detail?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = detail?.code;
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const detail = await response.json().then((body) => body.error, () => null);
  throw new ServerError(response.status, detail);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new ServerError(0, { message: "The connection ended in mid-answer." });
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;
      if (part === "data: [DONE]") return;
      const event = JSON.parse(part.slice(6));
      if (event.error) throw new ServerError(0, event.error);
      yield event;
    }
  }
}

// ---- text to nodes

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part) => {
    if (/^`.+`$/.test(part)) return element("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return element("strong", {}, part.slice(2, -2));
    return part;
  });
}

function codeBlock(language, code) {
  const copy = element("button", { type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code).then(
      () => (copy.textContent = "Copied"),
      () => (copy.textContent = "Not allowed"),
    );
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  const pre = element("pre", { tabindex: "0" }, element("code", {}, code));
  return element("div", { class: "block" }, element("div", {}, language || "code", copy), pre);
}

function render(text) {
  const nodes = [];
  // Odd parts are fenced; the last fence may still be open while the answer is being written.
  text.split(/^[ ]*```/m).forEach((part, index) => {
    if (index % 2) {
      const [first, ...lines] = part.split("\n");
      nodes.push(codeBlock(first.trim(), lines.join("\n").replace(/\n$/, "")));
    } else {
      const paragraphs = part.split(/\n{2,}/).map((p) => p.replace(/^\n+|\s+$/g, ""));
      nodes.push(...paragraphs.filter(Boolean).map((p) => element("p", {}, ...inline(p))));
    }
  });
  return nodes.length ? nodes : [element("p")];
}

// ---- the conversation

function addTurn(role, text) {
  $("empty").hidden = true;
  const turn = element("article", { class: `turn ${role}`, "aria-label": role === "user" ? "You" : "Model" });
  if (role === "user") turn.append(text);
  else turn.append(element("div", { class: "text" }, ...render(text)));
  log.append(turn);
  scroll.scrollTop = scroll.scrollHeight;
  return turn;
}

function notice(turn, text, action) {
  turn.querySelector(".notice")?.remove();
  if (!text) return;
  const box = element("div", { class: "notice", role: "status" }, text);
  if (action) {
    const button = element("button", { type: "button", class: "quiet" }, action.label);
    button.addEventListener("click", action.run);
    box.append(button);
  }
  turn.append(box);
  scroll.scrollTop = scroll.scrollHeight;
}

function explain(error) {
  if (error instanceof TypeError) return "The server cannot be reached. Is it still running?";
  if (error.code === "context_length_exceeded")
    return "This conversation has become too long for the model. Please start a new chat.";
  if (error.status === 429) return "The server is busy with others. Please try again in a moment.";
  if (error.status === 401) return "The server asks for its key: enter it below, then try again.";
  return error.message;
}

async function answer() {
  const conversation = messages; // "New chat" may replace it in mid-answer
  const turn = addTurn("assistant", "");
  const text = turn.querySelector(".text");
  const state = { text: "", first: 0, last: performance.now(), begun: performance.now(), usage: null, drawn: true };
  turn.classList.add("writing");
  setRunning(new AbortController());
  const watch = setInterval(() => watchSilence(turn, state), 500);
  const draw = () => {
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    text.replaceChildren(...render(state.text));
    if (atEnd) scroll.scrollTop = scroll.scrollHeight;
    state.drawn = true;
  };
  try {
    await read(conversation, state, running.signal, () => {
      if (state.drawn) requestAnimationFrame(draw);
      state.drawn = false;
      if (turn.querySelector(".notice")) notice(turn, "");
    });
    notice(turn, "");
  } catch (error) {
    notice(turn, "");
    if (error.name !== "AbortError") failed(conversation, turn, state, error);
  } finally {
    clearInterval(watch);
    draw();
    turn.classList.remove("writing");
    setRunning(null);
  }
  if (state.text) conversation.push({ role: "assistant", content: state.text });
  addFacts(turn, state);
}

async function read(conversation, state, signal, onText) {
  const response = await call("/v1/chat/completions", {
    method: "POST",
    signal,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: $("model").value,
      messages: conversation,
      temperature: TEMPERATURE,
      top_p: TOP_P,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  for await (const event of events(response)) {
    if (event.usage) state.usage = event.usage;
    const piece = event.choices[0]?.delta?.content;
    if (!piece) continue;
    state.last = performance.now();
    state.first ||= state.last;
    state.text += piece;
    onText();
  }
}

function failed(conversation, turn, state, error) {
  if (error.status === 401) askForKey();
  const again = () => {
    if (running) return;
    turn.remove();
    if (state.text) conversation.pop();
    answer();
  };
  notice(turn, explain(error), { label: "Try again", run: again });
}

function addFacts(turn, state) {
  if (!state.first) return;
  const facts = [`first token after ${seconds(state.first - state.begun)}`];
  if (state.usage) {
    const count = state.usage.completion_tokens;
    const rate = (count - 1) / ((state.last - state.first) / 1000);
    facts.unshift(`${count} tokens`);
    if (count > 1 && Number.isFinite(rate)) facts.unshift(`${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`);
  }
  turn.append(element("p", { class: "facts" }, facts.join(" · ")));
}

const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

async function watchSilence(turn, state) {
  if (performance.now() - state.last < SILENCE_MS) return;
  const ready = await fetch("/ready").then((response) => response.ok, () => false);
  if (!running || performance.now() - state.last < SILENCE_MS) return;
  setState(ready);
  notice(turn, ready ? "" : "The engine is restarting… your answer will go on by itself.");
}

// ---- controls

function setRunning(controller) {
  running = controller;
  log.setAttribute("aria-busy", String(Boolean(controller)));
  send.classList.toggle("stop", Boolean(controller));
  send.setAttribute("aria-label", controller ? "Stop" : "Send");
  updateSend();
}

function updateSend() {
  send.disabled = !running && (!prompt.value.trim() || !$("model").value);
}

function setState(ready) {
  const word = ready ? "ready" : "not ready yet";
  $("state").className = `dot ${ready ? "ready" : "waiting"}`;
  $("state").setAttribute("aria-label", word);
  $("state").title = word;
}

function askForKey() {
  $("key-form").hidden = false;
  $("key").focus();
}

async function connect() {
  const ready = await fetch("/ready").then((response) => response.ok, () => false);
  setState(ready);
  try {
    const { data } = await call("/v1/models").then((response) => response.json());
    const chosen = $("model").value;
    $("model").replaceChildren(...data.map(({ id }) => element("option", { value: id }, id)));
    if (data.some(({ id }) => id === chosen)) $("model").value = chosen;
    $("model").disabled = data.length < 2;
    $("key-form").hidden = true;
    updateSend();
  } catch (error) {
    if (error.status === 401) return askForKey();
  }
  if (!ready) setTimeout(connect, 1000);
}

function submit(text) {
  if (running || !text.trim() || !$("model").value) return;
  for (const button of log.querySelectorAll(".notice button")) button.remove(); // too late to try again
  messages.push({ role: "user", content: text });
  addTurn("user", text);
  prompt.value = "";
  updateSend();
  prompt.focus();
  answer();
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else submit(prompt.value);
});
prompt.addEventListener("input", updateSend);
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit(prompt.value);
  }
});
$("suggestions").addEventListener("click", (event) => {
  if (event.target instanceof HTMLButtonElement) submit(event.target.textContent);
});
$("new").addEventListener("click", () => {
  running?.abort();
  messages = [];
  log.replaceChildren();
  $("empty").hidden = false;
  prompt.focus();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  sessionStorage.setItem("key", key);
  connect();
});

connect();
