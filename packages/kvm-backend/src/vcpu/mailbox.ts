/**
 * Words of the mailbox between a vCPU's thread and the machine thread. The vCPU's thread only ever enters the guest;
 * what an exit means is decided on the machine thread, which reads `kvm_run` itself (docs/adr/0012).
 */
export const Word = {
  /** One of `Turn`. Whoever's turn it is owns `kvm_run`. */
  TURN: 0,
  /** Result of the last KVM_RUN: 0, or the number of its errno. */
  ERRNO: 1,
  /** The kernel's number of the vCPU's thread. */
  TID: 2,
} as const;
export const WORDS = 4;

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

export interface ThreadData {
  readonly words: SharedArrayBuffer;
  readonly fd: number;
  readonly name: string;
}
