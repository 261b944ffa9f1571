// The API's description, shown: /api/openapi.json as a page to read.

import { h } from "./dom.js";

const main = document.getElementById("main");

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.oneOf) return schema.oneOf.map(typeOf).join(" or ");
  if (schema.type === "array") return schema.items ? `${typeOf(schema.items)}[]` : "array";
  return [schema.type].flat().join(" | ") + (schema.format ? ` (${schema.format})` : "");
}

function table(titles, rows) {
  return h("table", {}, h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))));
}

/** A text in which `what stands between these` is code. */
const prose = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
const code = (text) => h("code", {}, text);

function fields(schema) {
  const must = new Set(schema.required ?? []);
  return table(["field", "type", ""], Object.entries(schema.properties ?? {}).map(([name, one]) =>
    [code(name), typeOf(one), [one.description ?? "", must.size && !must.has(name) ? "optional" : ""].filter(Boolean).join(" ")]));
}

function example(method, path, operation) {
  const lines = [`curl -H "Authorization: Bearer $CONSOLE_TOKEN"`];
  if (method !== "get") lines.push(`-X ${method.toUpperCase()}`);
  if (operation.requestBody) lines.push(`-H 'Content-Type: application/json' -d '{}'`);
  if (operation.operationId === "watch") lines.push("-N");
  return `${lines.join(" ")} \\\n  ${location.origin}${path}`;
}

function operationOf(path, method, operation, shared) {
  const parameters = [...(shared ?? []), ...(operation.parameters ?? [])];
  const answers = Object.entries(operation.responses).map(([status, answer]) => {
    if (answer.$ref) return [code(status), "Problem", ""];
    const contents = Object.entries(answer.content ?? {});
    const types = contents.map(([, content]) => (content.schema ? typeOf(content.schema) : "")).filter(Boolean);
    return [code(status), types.join(" or ") || answer.description, contents.map(([media]) => media).join(", ")];
  });
  return h("details", { class: "card", id: operation.operationId },
    h("summary", {}, h("span", { class: `method ${method}` }, method.toUpperCase()), h("span", { class: "mono" }, path),
      h("span", { class: "muted" }, operation.summary)),
    h("div", { class: "inside" },
      operation.description ? h("p", {}, prose(operation.description)) : null,
      parameters.length ? table(["parameter", "in", ""], parameters.map((one) => [code(one.name), one.in, one.description || typeOf(one.schema)])) : null,
      operation.requestBody ? h("p", {}, "Body: ", typeOf(operation.requestBody.content["application/json"].schema)) : null,
      table(["status", "answer", "media type"], answers),
      h("pre", { tabIndex: 0 }, example(method, path, operation))));
}

async function show() {
  const api = await (await fetch("/api/openapi.json")).json();
  const groups = api.tags.map((tag) => {
    const operations = Object.entries(api.paths).flatMap(([path, item]) =>
      ["get", "post", "delete"].filter((method) => item[method]?.tags.includes(tag.name))
        .map((method) => operationOf(path, method, item[method], item.parameters)));
    return [h("div", { class: "head" }, h("h2", {}, tag.name[0].toUpperCase() + tag.name.slice(1)), h("span", { class: "muted" }, tag.description)), ...operations];
  });
  const schemas = Object.entries(api.components.schemas).map(([name, schema]) =>
    h("details", { class: "card", id: `schema-${name}` }, h("summary", {}, h("b", {}, name)),
      h("div", { class: "inside" }, ...(schema.oneOf ?? [schema]).map(fields))));
  const section = (...content) => h("section", { class: "docs" }, ...content);
  main.replaceChildren(
    section(h("div", { class: "head" }, h("h2", {}, `${api.info.title}: HTTP API`), h("span", { class: "pill plain" }, api.info.version)),
      h("p", { class: "muted" }, api.info.description),
      h("p", {}, "Show ", code("Authorization: Bearer CONSOLE_TOKEN"), ". For tools: ", h("a", { href: "/api/openapi.json" }, "openapi.json"), " (OpenAPI ", api.openapi, ").")),
    ...groups.map((group) => section(...group)),
    section(h("div", { class: "head" }, h("h2", {}, "Shapes")), ...schemas));
}

show().catch(() => main.replaceChildren(h("p", { class: "note bad" }, "The description can’t be read. Is the bridge there?")));
