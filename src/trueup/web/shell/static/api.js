// Talks to /api/v1: CSRF header, idempotency keys, and the server's own words when something is wrong.

const ROOT = "/api/v1";
const SAFE = new Set(["GET", "HEAD"]);
const PATIENCE_MS = 20_000;
let csrf = "";

/** A problem+json answer (RFC 9457). */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail || body.title || `The server answered ${status}.`);
    this.status = status;
    this.expected = body.expected ?? "";
    this.fix = body.fix ?? "";
    this.where = body.where ?? "";
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status >= 500 || this.status === 429 || this.status === 408 || this.status === 401;
  }

  /** Everything the server said, as one sentence or two. */
  get words() {
    const extra = [this.expected && `Expected: ${this.expected}.`, this.fix && `To fix it: ${this.fix}.`];
    return [this.message, ...extra].filter(Boolean).join(" ");
  }
}

/** The request did not reach the server, or its answer did not reach us. */
export class Offline extends Error {}

/** A fresh idempotency key: 32 hex digits. (`crypto.randomUUID` is missing on plain-http hosts.) */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What to say about any error that a call can throw. */
export function words(error) {
  if (error instanceof Problem) return error.words;
  if (error instanceof Offline) return "No connection to the server.";
  return `Something went wrong in this page: ${error.message}`;
}

async function once(method, path, { body, raw, headers = {}, keepalive = false }) {
  const sent = { Accept: "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (!SAFE.has(method) && csrf) sent["X-CSRF-Token"] = csrf;
  let response;
  try {
    response = await fetch(ROOT + path, {
      method,
      headers: sent,
      body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
      credentials: "same-origin",
      cache: "no-store",
      keepalive,
      signal: AbortSignal.timeout(raw ? 10 * PATIENCE_MS : PATIENCE_MS),
    });
  } catch (error) {
    throw new Offline("no connection", { cause: error });
  }
  return response;
}

async function decode(response) {
  const text = response.status === 204 ? "" : await response.text().catch(() => Promise.reject(new Offline("cut off")));
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = { title: `The server answered ${response.status} with something that is not JSON.` };
  }
  if (!response.ok) throw new Problem(response.status, body ?? {}, Number(response.headers.get("Retry-After")) || null);
  return body;
}

/**
 * One request. A CSRF token that went stale (another tab signed in again) is fetched anew, once.
 * @throws {Problem|Offline}
 */
export async function call(method, path, options = {}) {
  let response = await once(method, path, options);
  if (response.status === 403 && !SAFE.has(method)) {
    const before = csrf;
    await me().catch(() => null);
    if (csrf && csrf !== before) response = await once(method, path, options);
  }
  if (response.status === 401 && !path.startsWith("/auth/")) window.dispatchEvent(new Event("trueup:signed-out"));
  return decode(response);
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}, headers = {}) => call("POST", path, { body, headers });
export const patch = (path, body) => call("PATCH", path, { body });
export const put = (path, body, headers = {}, keepalive = false) => call("PUT", path, { body, headers, keepalive });
export const remove = (path) => call("DELETE", path);
/** Sends a file as it is. */
export const upload = (path, file) => call("POST", path, { raw: file, headers: { "Content-Type": "application/octet-stream" } });

/** Who is signed in; also renews the CSRF token. */
export async function me() {
  const person = await get("/me");
  csrf = person.csrf ?? "";
  return person;
}

/** Signs in; 401 is the same for a wrong handle and a wrong password. */
export async function login(handle, password) {
  const reply = await post("/auth/login", { handle, password });
  csrf = reply.csrf;
  return reply.me;
}

/** Ends the session. */
export async function logout() {
  await post("/auth/logout");
  csrf = "";
}

/** Uses a token that came with the page's address, where nobody signs in. */
export function carry(token) {
  csrf = token;
}

/** A path segment from an id. */
export const seg = encodeURIComponent;
