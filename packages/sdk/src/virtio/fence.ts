const word = new Int32Array(new SharedArrayBuffer(4));

/** A full memory barrier between this thread's stores and its later loads: the driver may run on another thread. */
export function fence(): void {
  Atomics.add(word, 0, 0);
}
