import { RestoreError, type VcpuState } from "@northbridge/core/contracts";

/** What a saved value must be: a predicate with its description, or the same for each member of an object or a list. */
type Shape =
  | { readonly expected: string; readonly isValid: (value: unknown) => boolean }
  | { readonly members: Readonly<Record<string, Shape>> }
  | { readonly each: Shape };

const value = (expected: string, isValid: (value: unknown) => boolean): Shape => ({ expected, isValid });
const unsigned = (bits: number): Shape =>
  value(
    `an unsigned integer of ${bits} bits`,
    (found) => Number.isInteger(found) && (found as number) >= 0 && (found as number) < 2 ** bits,
  );
const u64 = value(
  "an unsigned integer of 64 bits",
  (found) => typeof found === "bigint" && found >= 0n && BigInt.asUintN(64, found) === found,
);
const flag = value("true or false", (found) => typeof found === "boolean");
const text = value("base64 text", (found) => typeof found === "string");
const all = (shape: Shape, ...names: readonly string[]): Readonly<Record<string, Shape>> =>
  Object.fromEntries(names.map((name) => [name, shape]));
/** Members that an older state or another backend's may not have. */
const optional = (shape: Shape): Shape =>
  "isValid" in shape
    ? value(`${shape.expected}, or nothing`, (found) => found === undefined || shape.isValid(found))
    : shape;

const GENERAL = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split(" ");
const SEGMENTS = "cs ds es fs gs ss tr ldt".split(" ");
const CONTROL = "cr0 cr2 cr3 cr4 cr8 efer apicBase".split(" ");
const MP_STATES: readonly unknown[] = ["runnable", "halted", "waitForSipi", "initReceived"];

const SEGMENT: Shape = {
  members: {
    base: u64,
    limit: unsigned(32),
    selector: unsigned(16),
    type: unsigned(4),
    dpl: unsigned(2),
    ...all(flag, "present", "db", "s", "l", "g", "avl", "unusable"),
  },
};
const TABLE: Shape = { members: { base: u64, limit: unsigned(32) } };

const STATE: Shape = {
  members: {
    version: value("version 1", (found) => found === 1),
    regs: { members: all(u64, ...GENERAL) },
    sregs: {
      members: { ...all(SEGMENT, ...SEGMENTS), ...all(TABLE, "gdt", "idt"), ...all(u64, ...CONTROL) },
    },
    fxsave: text,
    xcr0: u64,
    msrs: { each: { members: { "0": unsigned(32), "1": u64 } } },
    lapic: text,
    events: {
      members: {
        ...all(flag, "nmiPending", "nmiMasked", "interruptShadow"),
        movSsShadow: optional(flag),
        pendingDebug: optional(unsigned(16)),
      },
    },
    xsave: optional(text),
    debugregs: { members: { db: { members: all(u64, "0", "1", "2", "3") }, dr6: u64, dr7: u64 } },
    mpState: value(MP_STATES.join(", "), (found) => MP_STATES.includes(found)),
    tsc: u64,
  },
};

const REMAINDER: Shape = {
  members: {
    pendingErrors: unsigned(8),
    timerLeftNs: optional(
      value("a number of nanoseconds", (found) => Number.isFinite(found) && (found as number) >= 0),
    ),
  },
};

const show = (found: unknown): string =>
  typeof found === "object" && found !== null
    ? Array.isArray(found)
      ? "a list"
      : "an object"
    : typeof found === "string"
      ? JSON.stringify(found)
      : String(found);

function check(path: string, found: unknown, shape: Shape): void {
  if ("isValid" in shape) {
    if (!shape.isValid(found))
      throw new RestoreError(path, `expected ${shape.expected}, found ${show(found)}`);
    return;
  }
  if (typeof found !== "object" || found === null || ("each" in shape && !Array.isArray(found)))
    throw new RestoreError(
      path,
      `expected ${"each" in shape ? "a list" : "an object"}, found ${show(found)}`,
    );
  if ("each" in shape) {
    (found as readonly unknown[]).forEach((member, index) => {
      check(`${path}[${index}]`, member, shape.each);
    });
    return;
  }
  for (const [name, member] of Object.entries(shape.members)) {
    const here = /^\d/.test(name) ? `${path}[${name}]` : `${path}.${name}`;
    check(here, (found as Readonly<Record<string, unknown>>)[name], member);
  }
}

/** Members of `events` that may be absent. */
const EXCEPTION: Shape = { members: { vector: unsigned(8), error: optional(unsigned(32)) } };
const INTERRUPT: Shape = { members: { vector: unsigned(8), isSoft: flag } };

/**
 * Checks every member of a saved state, which may come out of a damaged or foreign snapshot.
 * Throws `NB_RESTORE` naming the first one that is not what it must be, as `vCPU 0.sregs.cs.limit`.
 */
export function checkVcpuState(what: string, saved: VcpuState): void {
  check(what, saved, STATE);
  const { exception, interrupt } = saved.events;
  if (exception !== undefined) check(`${what}.events.exception`, exception, EXCEPTION);
  if (interrupt !== undefined) check(`${what}.events.interrupt`, interrupt, INTERRUPT);
  if (saved.lapicRemainder !== undefined) check(`${what}.lapicRemainder`, saved.lapicRemainder, REMAINDER);
}
