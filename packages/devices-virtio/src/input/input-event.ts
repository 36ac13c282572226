/** One event: type, code and value of Linux's input subsystem. */
export type InputEvent = readonly [type: number, code: number, value: number];
