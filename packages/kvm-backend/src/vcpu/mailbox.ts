import type { VcpuHandlerSource } from "@northbridge/sdk";

/**
 * Words of the mailbox between a vCPU's thread and the machine thread. The vCPU's thread enters the guest and answers
 * what devices put there (docs/adr/0033); what any other exit means is decided on the machine thread, which reads
 * `kvm_run` itself (docs/adr/0012).
 */
export const Word = {
  /** One of `Turn`. Whoever's turn it is owns `kvm_run`. */
  TURN: 0,
  /** Result of the last KVM_RUN: 0, or the number of its errno. */
  ERRNO: 1,
  /** The kernel's number of the vCPU's thread. */
  TID: 2,
  /** Messages sent to the vCPU's thread. It takes them before it enters the guest. */
  MAIL: 3,
  /** Exits that the vCPU's thread answered by itself. */
  ANSWERED: 4,
  /** Not 0 while the machine thread is in its event loop and hears of the guest's return by the thread's event. */
  AWAITED: 5,
} as const;
export const WORDS = 8;

export const Turn = {
  STARTING: 0,
  /** The machine thread's: the guest is stopped, `kvm_run` tells why. */
  MACHINE: 1,
  /** The vCPU's thread's: it is in the guest, or about to enter. */
  GUEST: 2,
  QUIT: 3,
} as const;

/** Interrupts KVM_RUN; a realtime signal that nothing else in a Node process uses. */
export const KICK_SIGNAL = 40;

/** What a vCPU's thread is started with. */
export interface ThreadData {
  readonly words: SharedArrayBuffer;
  readonly name: string;
  /** The eventfd that says in the machine thread's event loop that the guest is back. */
  readonly event: number;
}

/** The vCPU that the thread runs: its descriptor and `kvm_run`. */
export interface VcpuMail {
  readonly kind: "vcpu";
  readonly fd: number;
  readonly run: SharedArrayBuffer;
}

/** A range of ports or addresses that a module answers on the vCPU's thread. */
export interface RangeMail extends VcpuHandlerSource {
  readonly kind: "range";
  readonly space: "ports" | "mmio";
  readonly base: number;
  readonly length: number;
  /** One word: not 0 while the range is mapped. */
  readonly gate: SharedArrayBuffer;
}

export type Mail = VcpuMail | RangeMail;
