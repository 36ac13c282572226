import { describe, expect, it } from "vitest";
import { bytes, LAPIC, setApic } from "./real-mode-code.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

/** Processors of the machine; `NORTHBRIDGE_KVM_VCPUS` asks for another number, such as 64. */
const VCPUS = Number(process.env["NORTHBRIDGE_KVM_VCPUS"] ?? 8);

const ARRIVED = 0x2000;
const SUM = 0x2002;
const APIC_IDS = 0x2100;
const EACH = 50;
/** Where a SIPI of vector 8 sends a processor. */
const TRAMPOLINE = 0x8000;

/** LOCK INC word [at]. */
const count = (at: number): number[] => [0xf0, 0xff, 0x06, ...bytes(at, 2)];

/** Enables the APIC, sends INIT and SIPI to all others, adds up like them and waits for them; then OUT 0E0h, AL. */
const FIRST = [
  ...setApic(0xf0, 0x1ff),
  ...setApic(0x300, 0xc4500),
  ...setApic(0x300, 0xc4608),
  ...[0xb9, ...bytes(EACH, 2), ...count(SUM), 0xe2, 0xf9], // MOV CX, EACH; count; LOOP
  ...[0x81, 0x3e, ...bytes(ARRIVED, 2), ...bytes(VCPUS - 1, 2), 0x75, 0xf8], // CMP [ARRIVED], VCPUS - 1; JNE
  ...[0xe6, 0xe0, 0xeb, 0xfc],
];

/** Notes what CPUID says of the APIC id, adds up and arrives; then HLT with interrupts off. */
const OTHERS = [
  ...[0x31, 0xc0, 0x8e, 0xd8, 0x40], // XOR AX, AX; MOV DS, AX; INC AX
  ...[0x66, 0x31, 0xc9, 0x66, 0x25, 0x01, 0x00, 0x00, 0x00], // XOR ECX, ECX; AND EAX, 1
  ...[0x0f, 0xa2, 0x66, 0xc1, 0xeb, 0x18], // CPUID; SHR EBX, 24
  ...[0xfe, 0x87, ...bytes(APIC_IDS, 2)], // INC byte [BX + APIC_IDS]
  ...[0xb9, ...bytes(EACH, 2), ...count(SUM), 0xe2, 0xf9],
  ...count(ARRIVED),
  ...[0xfa, 0xf4, 0xeb, 0xfc], // CLI; HLT; JMP to CLI
];

describe.skipIf(!hasKvm)(`a machine of ${VCPUS} processors`, () => {
  it("brings all of them up by INIT and SIPI, and they add up", { timeout: 0 }, async () => {
    const guest = await RealModeGuest.create(FIRST, { vcpus: VCPUS });
    try {
      guest.ram.set(OTHERS, TRAMPOLINE);
      guest.vm.memoryWritten(TRAMPOLINE, OTHERS.length);
      const [first, ...others] = guest.vm.vcpus;
      const { sregs, ...rest } = first!.getState();
      first!.setState({ ...rest, sregs: { ...sregs, es: { ...sregs.es, base: BigInt(LAPIC) } } });
      for (const other of others) {
        other.reset();
        expect(other.getState().mpState).toBe("waitForSipi");
      }
      guest.mapPorts(
        { base: 0xe0, length: 1 },
        {
          read: () => 0,
          write: () => {
            for (const vcpu of guest.vm.vcpus) vcpu.kick();
          },
        },
      );
      const exits = await Promise.all(guest.vm.vcpus.map((vcpu) => vcpu.run()));
      expect(exits).toEqual(exits.map(() => ({ kind: "interrupted" })));
      expect(guest.word(ARRIVED)).toBe(VCPUS - 1);
      expect(guest.word(SUM)).toBe(EACH * VCPUS);
      expect([...guest.ram.subarray(APIC_IDS, APIC_IDS + VCPUS)]).toEqual([
        0,
        ...Array.from({ length: VCPUS - 1 }, () => 1),
      ]);
    } finally {
      await guest.vm.close();
    }
  });
});
