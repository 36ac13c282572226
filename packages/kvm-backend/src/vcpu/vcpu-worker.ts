import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { errnoNumber, EventFd, gettid, ioctlUnchecked, nameThread } from "@northbridge/linux";
import { Request } from "../abi/spec.ts";
import { type Mail, type ThreadData, Turn, Word } from "./mailbox.ts";
import { VcpuRanges } from "./vcpu-ranges.ts";

/** Looks at the mailbox this often before it sleeps: a register access is often answered within microseconds. */
const SPINS = 400;

const { words: shared, name, event: eventFd } = workerData as ThreadData;
const words = new Int32Array(shared);
const event = new EventFd(0, eventFd);
let fd = -1;
let ranges: VcpuRanges | undefined;
let taken = 0;

function awaitTurn(spins: number): number {
  for (let i = 0; i < spins; i++) {
    const turn = Atomics.load(words, Word.TURN);
    if (turn !== Turn.MACHINE) return turn;
  }
  for (;;) {
    const turn = Atomics.load(words, Word.TURN);
    if (turn !== Turn.MACHINE) return turn;
    Atomics.wait(words, Word.TURN, Turn.MACHINE);
  }
}

function takeMail(): void {
  if (parentPort === null) return;
  for (; taken !== Atomics.load(words, Word.MAIL); taken++) {
    const { message: mail } = receiveMessageOnPort(parentPort) as { readonly message: Mail };
    if (mail.kind === "range") ranges?.add(mail);
    else {
      fd = mail.fd;
      ranges = new VcpuRanges(new DataView(mail.run));
    }
  }
}

/** Runs the guest until an exit that the machine thread must see. */
function enterGuest(): void {
  for (;;) {
    if (taken !== Atomics.load(words, Word.MAIL)) takeMail();
    const result = ioctlUnchecked(fd, Request.KVM_RUN, 0);
    if (result < 0) return void Atomics.store(words, Word.ERRNO, errnoNumber());
    if (ranges?.answer() !== true) return void Atomics.store(words, Word.ERRNO, 0);
    words[Word.ANSWERED] = (words[Word.ANSWERED] ?? 0) + 1;
  }
}

/** Wakes the machine thread, wherever it waits. */
function tellMachine(): void {
  Atomics.notify(words, Word.TURN);
  if (Atomics.exchange(words, Word.AWAITED, 0) !== 0) event.signal();
}

try {
  nameThread(name);
  Atomics.store(words, Word.TID, gettid());
  // Unless it is told to quit already: here and below.
  Atomics.compareExchange(words, Word.TURN, Turn.STARTING, Turn.MACHINE);
  tellMachine();
  // After an interruption, the machine thread may wait for this one's processor.
  while (awaitTurn(words[Word.ERRNO] === 0 ? SPINS : 0) === Turn.GUEST) {
    enterGuest();
    Atomics.compareExchange(words, Word.TURN, Turn.GUEST, Turn.MACHINE);
    tellMachine();
  }
} finally {
  // What a handler threw is told in the event loop, and that may stand still until the guest is back.
  Atomics.store(words, Word.TURN, Turn.QUIT);
  tellMachine();
}
