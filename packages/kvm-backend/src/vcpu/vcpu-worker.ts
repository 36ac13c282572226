import { workerData } from "node:worker_threads";
import { errnoNumber, gettid, ioctlUnchecked, nameThread } from "@northbridge/linux";
import { Request } from "../abi/spec.ts";
import { type ThreadData, Turn, Word } from "./mailbox.ts";

/** Looks at the mailbox this often before it sleeps: a register access is often answered within microseconds. */
const SPINS = 400;

const { words: shared, fd, name } = workerData as ThreadData;
const words = new Int32Array(shared);

function handOver(turn: number): void {
  Atomics.store(words, Word.TURN, turn);
  Atomics.notify(words, Word.TURN);
}

function awaitTurn(): number {
  for (let i = 0; i < SPINS; i++) {
    const turn = Atomics.load(words, Word.TURN);
    if (turn !== Turn.MACHINE) return turn;
  }
  for (;;) {
    const turn = Atomics.load(words, Word.TURN);
    if (turn !== Turn.MACHINE) return turn;
    Atomics.wait(words, Word.TURN, Turn.MACHINE);
  }
}

nameThread(name);
Atomics.store(words, Word.TID, gettid());
handOver(Turn.MACHINE);
while (awaitTurn() === Turn.GUEST) {
  const result = ioctlUnchecked(fd, Request.KVM_RUN, 0);
  Atomics.store(words, Word.ERRNO, result < 0 ? errnoNumber() : 0);
  handOver(Turn.MACHINE);
}
