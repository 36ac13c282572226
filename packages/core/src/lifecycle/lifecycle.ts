import type { LifecycleState } from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";

const LEGAL: Readonly<Record<LifecycleState, readonly LifecycleState[]>> = {
  created: ["running", "paused", "stopped"],
  running: ["paused", "stopped"],
  paused: ["running", "stopped"],
  stopped: [],
};

/** Where a machine is between created and stopped; every move is checked against the table of legal ones. */
export class Lifecycle {
  readonly #onMove: (state: LifecycleState) => void;
  #state: LifecycleState = "created";

  constructor(onMove: (state: LifecycleState) => void = () => undefined) {
    this.#onMove = onMove;
  }

  get state(): LifecycleState {
    return this.#state;
  }

  /** Throws `NB_LIFECYCLE` where the table has no such move. */
  move(to: LifecycleState): void {
    if (!LEGAL[this.#state].includes(to)) {
      const legal = LEGAL[this.#state];
      throw new NorthbridgeError(
        "NB_LIFECYCLE",
        `a ${this.#state} machine cannot become ${to}; from there it can become ${legal.length > 0 ? legal.join(" or ") : "nothing else"}`,
      );
    }
    this.#state = to;
    this.#onMove(to);
  }

  /** Throws `NB_LIFECYCLE` unless the machine is in one of `states`; `what` is what the caller wanted to do. */
  expect(what: string, ...states: readonly LifecycleState[]): void {
    if (!states.includes(this.#state)) {
      throw new NorthbridgeError(
        "NB_LIFECYCLE",
        `${what} needs a machine that is ${states.join(" or ")}, not ${this.#state}`,
      );
    }
  }
}
