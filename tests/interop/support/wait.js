// Waiting with a limit. A test that hangs says nothing; one that says what it waited for is half repaired.

/** The limit for anything that a healthy broker answers at once; wide, because test machines are slow. */
export const SOON_MS = 5_000;

/** `promise`, or an error that names `what` when it takes longer than `limitMs`. */
export async function within(limitMs, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${limitMs} ms`)), limitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The arguments of the next `event` of `emitter`: a Node emitter, a socket of the official client or its manager. */
export function nextEvent(emitter, event, limitMs = SOON_MS) {
  return within(limitMs, new Promise((resolve) => emitter.once(event, (...args) => resolve(args))), `event "${event}"`);
}
