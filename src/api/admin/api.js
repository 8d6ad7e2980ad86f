// Requests to the server API, which the page has no other way to reach the broker than by.

const BASE = new URL('../api/v1/', document.baseURI);

/** A request that was not done, in the API's words. */
export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function send(token, path, { method = 'GET', body, headers, signal } = {}) {
  const all = { authorization: `Bearer ${token}`, ...headers };
  if (body) all['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(new URL(path, BASE), { method, headers: all, body: body && JSON.stringify(body), signal, cache: 'no-store' });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'The broker cannot be reached.');
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem.detail ?? `The broker responds with ${response.status}.`);
}

/** The JSON that a request is answered with. */
export const json = async (token, path, options) => (await send(token, path, options)).json();

/** The text that a request is answered with. */
export const text = async (token, path) => (await send(token, path)).text();

/** Has something done. */
export const change = (token, method, path, body) => send(token, path, { method, body });

/** The events of a stream from behind the event `last`, each with its name, its ID and its data. */
export async function* events(token, last, signal) {
  const headers = last ? { 'last-event-id': last } : {};
  const { body } = await send(token, 'events', { headers, signal });
  let unread = '';
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    unread += value;
    const blocks = unread.split('\n\n');
    unread = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s, 2)));
      if (fields.data) yield { name: fields.event, id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}
