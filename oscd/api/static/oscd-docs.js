// Draws /openapi.json. Text becomes nodes by textContent alone, never markup: nothing shown can become code.
"use strict";

const REQUEST_TIMEOUT_MS = 30_000;
const MOST_SHOWN_CHARACTERS = 200_000;

const base = new URL("./", document.baseURI);
let spec;

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function resolve(schema) {
  if (!schema.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((node, name) => node[name], spec);
}

function bounds(schema) {
  const unit = schema.maxLength === undefined ? "" : " characters";
  const least = schema.minLength ?? schema.minimum;
  const most = schema.maxLength ?? schema.maximum;
  if (least === undefined && most === undefined) return "";
  if (most === undefined) return ` ≥ ${least}`;
  return least === undefined ? ` ≤ ${most}${unit}` : ` ${least}–${most}${unit}`;
}

// The type in words, objects over several lines.
function shape(given, indent = "") {
  const schema = resolve(given);
  if (schema.anyOf) return schema.anyOf.map((choice) => shape(choice, indent)).join(" or ");
  if (schema.enum) return schema.enum.map((choice) => JSON.stringify(choice)).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[ ${shape(schema.items ?? {}, indent)}, … ]`;
  if (schema.properties) {
    const fields = Object.entries(schema.properties).map(([name, field]) => {
      const optional = schema.required?.includes(name) ? "" : "  (optional)";
      return `${indent}  "${name}": ${shape(field, `${indent}  `)}${optional}`;
    });
    return `{\n${fields.join("\n")}\n${indent}}`;
  }
  if (typeof schema.additionalProperties === "object") return `{ name: ${shape(schema.additionalProperties, indent)}, … }`;
  return (schema.format ?? schema.type ?? "any JSON") + bounds(schema);
}

function sample(given) {
  const schema = resolve(given);
  if (schema.examples) return schema.examples[0];
  if (schema.anyOf) return sample(schema.anyOf[0]);
  if (schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties).map(([name, field]) => [name, sample(field)]));
  }
  return schema.type === "integer" ? (schema.minimum ?? 0) : "text";
}

function table(titles, rows) {
  const head = element("tr", {}, ...titles.map((title) => element("th", { textContent: title })));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

function parameterField(parameter) {
  const field = parameter.schema.enum
    ? element("select", {}, ...["", ...parameter.schema.enum].map((choice) => element("option", { textContent: choice })))
    : element("input", { placeholder: String(parameter.schema.examples?.[0] ?? ""), autocomplete: "off" });
  field.required = parameter.required;
  field.setAttribute("aria-label", parameter.name);
  return field;
}

// What a body is written in; its name is the media type. A body without a schema is bytes, which a file gives.
function bodyFieldOf(operation) {
  const [kind, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  if (!kind) return null;
  const field = content.schema
    ? element("textarea", { spellcheck: false, value: JSON.stringify(sample(content.schema), null, 2) })
    : element("input", { type: "file" });
  field.name = kind;
  field.required = operation.requestBody.required && !content.schema;
  field.setAttribute("aria-label", "body");
  return field;
}

function answers(operation) {
  return table(["Status", "Answer", "Headers"], Object.entries(operation.responses).map(([status, answer]) => [
    element("code", { textContent: status }),
    element("div", {}, answer.description, ...Object.entries(answer.content ?? {}).map(([kind, content]) =>
      element("details", {}, element("summary", { className: "dim", textContent: kind }),
        element("pre", { textContent: content.schema ? shape(content.schema) : "events, one after the other" })))),
    element("span", { className: "dim", textContent: Object.keys(answer.headers ?? {}).join(", ") }),
  ]));
}

function request(path, method, operation, fields, bodyField) {
  let filled = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const [parameter, field] of fields) {
    if (field.value === "") continue;
    if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, () => encodeURIComponent(field.value));
    if (parameter.in === "query") query.set(parameter.name, field.value);
    if (parameter.in === "header") headers[parameter.name] = field.value;
  }
  for (const scheme of new Set((operation.security ?? []).flatMap(Object.keys))) {
    const key = document.getElementById(scheme).value;
    if (key) headers[spec.components.securitySchemes[scheme].name] = key;
  }
  if (bodyField) headers["Content-Type"] = bodyField.name;
  const url = new URL(filled.slice(1), base);
  url.search = query;
  const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  return fetch(url, {
    method: method.toUpperCase(), headers, body: bodyField?.files ? bodyField.files[0] : bodyField?.value,
    signal, credentials: "omit", cache: "no-store",
  });
}

// Shows an answer while it arrives: a stream of events has no end, and is cut off by the time limit.
async function showAnswer(sent, output) {
  const answer = await sent;
  const head = `${answer.status} ${answer.statusText}\n${[...answer.headers].map(([name, text]) => `${name}: ${text}`).join("\n")}`;
  const parts = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let body = "";
  output.textContent = head;
  output.hidden = false;
  for (let part = await parts?.read(); part && !part.done; part = await parts.read()) {
    body += part.value;
    const shown = body.slice(0, MOST_SHOWN_CHARACTERS);
    output.textContent = `${head}\n\n${shown}${body.length > MOST_SHOWN_CHARACTERS ? " …" : ""}`;
  }
}

function tryForm(path, method, operation) {
  const fields = operation.parameters.map((parameter) => [parameter, parameterField(parameter)]);
  const bodyField = bodyFieldOf(operation);
  const schema = operation.requestBody?.content[bodyField.name].schema;
  const send = element("button", { textContent: "Send" });
  const output = element("pre", { hidden: true });
  output.setAttribute("aria-live", "polite");
  const form = element("form", {},
    table(["Parameter", "In", "Type", "Value"], fields.map(([parameter, field]) => [
      element("div", {}, element("code", { textContent: parameter.name + (parameter.required ? " *" : "") }),
        element("div", { className: "dim", textContent: parameter.description ?? "" })),
      parameter.in, element("span", { className: "dim", textContent: shape(parameter.schema) }), field])),
    bodyField ? element("h3", { textContent: "Body" }) : null,
    bodyField ? element("pre", { textContent: schema ? shape(schema) : bodyField.name }) : null,
    bodyField, send, output);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    output.hidden = true;
    try {
      await showAnswer(request(path, method, operation, fields, bodyField), output);
    } catch (error) {
      output.textContent = output.hidden ? `No answer: ${error.message}` : `${output.textContent}\n(${error.message})`;
      output.hidden = false;
    }
    send.disabled = false;
  });
  return form;
}

function drawOperation(path, method, operation) {
  const names = [...new Set((operation.security ?? []).flatMap(Object.keys))];
  const keys = names.map((name) => spec.components.securitySchemes[name]);
  const inside = element("div", {},
    operation.description ? element("p", { textContent: operation.description }) : null,
    ...keys.map((key) => element("p", { className: "dim", textContent: `${key.name}: ${key.description}` })),
    tryForm(path, method, operation),
    element("h3", { textContent: "Answers" }), answers(operation));
  return element("details", { className: "operation" },
    element("summary", {}, element("span", { className: `method ${method}`, textContent: method.toUpperCase() }),
      element("code", { textContent: path }), element("span", { className: "dim", textContent: operation.summary })),
    inside);
}

async function draw() {
  const about = document.getElementById("about");
  try {
    const answer = await fetch(new URL("openapi.json", base), { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    spec = await answer.json();
  } catch (error) {
    about.textContent = `openapi.json could not be loaded: ${error.message}`;
    return;
  }
  document.getElementById("version").textContent = spec.info.version;
  about.textContent = spec.info.description;
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      document.getElementById("operations").append(drawOperation(path, method, operation));
    }
  }
}

draw();
