import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { probeKvm } from "../src/index.ts";
import { missingCapabilities } from "../src/probe/probe.ts";

const directory = mkdtempSync(join(tmpdir(), "northbridge-probe-"));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

describe("the probe of KVM", () => {
  it("says what to do where there is no device", () => {
    expect(probeKvm(join(directory, "absent"))).toEqual({
      usable: false,
      findings: [
        expect.objectContaining({
          what: join(directory, "absent"),
          ok: false,
          detail: expect.stringMatching(/^ENOENT: load kvm_intel or kvm_amd/) as unknown,
        }),
      ],
    });
  });

  it("knows a device of another kind", () => {
    const file = join(directory, "file");
    writeFileSync(file, "");
    for (const path of [file, "/dev/null"]) {
      const { usable, findings } = probeKvm(path);
      expect([usable, findings[0]!.detail]).toEqual([false, expect.stringMatching(/^not KVM: .*ENOTTY/)]);
    }
  });

  it("names every capability that an old kernel lacks", () => {
    // Linux 4.9 has no immediate_exit (4.13); 3.2 neither signals MSIs (3.5) nor knows ROM (3.7).
    const IMMEDIATE_EXIT = 136;
    const SIGNAL_MSI = 77;
    const READONLY_MEM = 81;
    expect(missingCapabilities(() => true)).toEqual([]);
    expect(missingCapabilities((capability) => capability !== IMMEDIATE_EXIT)).toEqual([
      {
        what: "KVM_CAP_IMMEDIATE_EXIT",
        ok: false,
        detail: "no kicks without a race (Linux 4.13): a newer kernel is needed",
      },
    ]);
    const ofLinux32 = missingCapabilities(
      (capability) => ![IMMEDIATE_EXIT, SIGNAL_MSI, READONLY_MEM].includes(capability),
    );
    expect(ofLinux32.map(({ what }) => what)).toEqual([
      "KVM_CAP_SIGNAL_MSI",
      "KVM_CAP_READONLY_MEM",
      "KVM_CAP_IMMEDIATE_EXIT",
    ]);
  });
});
