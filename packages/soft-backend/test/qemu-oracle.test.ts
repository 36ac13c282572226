import { VirtualClock } from "@northbridge/core";
import { hypervisorConformance } from "@northbridge/sdk/conformance";
import { describe, it } from "vitest";
import { qemuHypervisor } from "./qemu/qemu-hypervisor.ts";
import { skipReason } from "./qemu/skip-reason.ts";

const QEMU = "/usr/bin/qemu-system-x86_64";
/** Groups whose programs need nothing but a processor. */
const GROUPS = new Set([
  "paging",
  "exceptions",
  "system calls",
  "single steps",
  "registers",
  "processor modes",
  "self-modifying code",
  "segments",
  "breakpoints",
]);
/** Programs that need a device of ours, and those where QEMU 7.2's TCG is known not to do as hardware. */
const LEFT_OUT: readonly RegExp[] = [
  /device wrote|across 4 GiB/,
  /SIPI/,
  // A read-modify-write faults as a read.
  /tells not-present|writes nothing of an access/,
  // RSVD without P in the error code.
  /reserved bits of a large page|NX bit for a reserved one/,
  // Error codes of gates count 16 bytes a vector.
  /gates that are absent/,
  // No #SS for addresses, no #AC, no RF in a fault's frame, no x2APIC, no limits of null segments.
  /not canonical|#AC|image with RF|x2APIC|null selectors/,
  // HLT is not stepped.
  /wakes from HLT/,
  // No limits and types of segments at all; breakpoints unaligned, on ports without CR4.DE, no GD.
  /expand-up|expand-down|read-only and code|element by element|beyond the code segment/,
  /bytes of LEN|watched port|guards the debug/,
  // Reserved bits of CR0, CR4, EFER and bad MSR values are taken.
  /refuses reserved bits|refuses bases/,
];

/** Opt-in (`NORTHBRIDGE_QEMU=1`): do the conformance programs expect what another implementation does? */
describe.skipIf(skipReason(QEMU) !== undefined)(
  `conformance programs on QEMU${skipReason(QEMU) ?? ""}`,
  () => {
    hypervisorConformance(
      {
        describe: (name, body) => {
          if (GROUPS.has(name)) describe(name, body);
        },
        it: (name, body) => {
          if (!LEFT_OUT.some((pattern) => pattern.test(name))) it(name, body);
        },
      },
      { createHypervisor: () => qemuHypervisor(QEMU), createClock: () => new VirtualClock() },
    );
  },
);
