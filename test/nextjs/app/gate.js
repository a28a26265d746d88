// The page /slow waits for a request to /rest: whoever reads it knows that its first
// part came before the rest was made. Both are compiled apart, and share globalThis.
export const released = () => new Promise((resolve) => (globalThis.release = resolve))
export const release = () => globalThis.release()
