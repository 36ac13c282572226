import { close, ioctl, open, OpenFlag, SystemCallError } from "@northbridge/linux";
import { API_VERSION, Capability, Request } from "../abi/spec.ts";

/** One thing that a machine under KVM needs. */
export interface KvmFinding {
  readonly what: string;
  readonly ok: boolean;
  /** What was found; where it is not enough, what to do. */
  readonly detail: string;
}

export interface KvmProbe {
  /** Whether machines can be made. Whether a guest's instructions work is `probeGuests`' question. */
  readonly usable: boolean;
  readonly findings: readonly KvmFinding[];
}

const NEEDED: readonly (readonly [keyof typeof Capability, string])[] = [
  ["KVM_CAP_IRQCHIP", "interrupt controllers in the kernel"],
  ["KVM_CAP_USER_MEMORY", "memory slots"],
  ["KVM_CAP_MP_STATE", "processor run states"],
  ["KVM_CAP_IRQ_ROUTING", "interrupt routing"],
  ["KVM_CAP_VCPU_EVENTS", "pending events"],
  ["KVM_CAP_DEBUGREGS", "debug registers"],
  ["KVM_CAP_XSAVE", "extended state"],
  ["KVM_CAP_XCRS", "extended control registers"],
  ["KVM_CAP_SIGNAL_MSI", "message-signalled interrupts"],
  ["KVM_CAP_READONLY_MEM", "ROM"],
  ["KVM_CAP_IMMEDIATE_EXIT", "kicks without a race (Linux 4.13)"],
];

const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: "load kvm_intel or kvm_amd, or enable virtualization in the firmware or in the outer VM",
  ENODEV: "the module found no processor support: enable virtualization in the firmware",
  EACCES: "no permission: add this user to the group of /dev/kvm",
  EPERM: "not permitted here: a container needs the device passed in",
};

/** Asks `/dev/kvm` what it has. Makes no VM; never throws. */
export function probeKvm(path = "/dev/kvm"): KvmProbe {
  if (process.platform !== "linux" || process.arch !== "x64")
    return refused("host", `KVM of x86-64 Linux is needed, this is ${process.platform} ${process.arch}`);
  let kvm: number;
  try {
    kvm = open(path, OpenFlag.O_RDWR);
  } catch (error) {
    if (error instanceof SystemCallError) {
      const advice = ADVICE[error.errno];
      return refused(path, advice === undefined ? error.errno : `${error.errno}: ${advice}`);
    }
    return refused("system calls", error instanceof Error ? error.message : String(error));
  }
  try {
    const version = ioctl(kvm, Request.KVM_GET_API_VERSION, 0, "KVM_GET_API_VERSION");
    const findings: KvmFinding[] = [
      { what: path, ok: version === API_VERSION, detail: `API version ${version}` },
    ];
    findings.push(
      ...missingCapabilities(
        (capability) => ioctl(kvm, Request.KVM_CHECK_EXTENSION, capability, "KVM_CHECK_EXTENSION") > 0,
      ),
    );
    return { usable: findings.every(({ ok }) => ok), findings };
  } catch (error) {
    return refused(path, `not KVM: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    close(kvm);
  }
}

/** What machines need and a KVM says it has not. */
export const missingCapabilities = (has: (capability: number) => boolean): readonly KvmFinding[] =>
  NEEDED.filter(([name]) => !has(Capability[name])).map(([name, what]) => ({
    what: name,
    ok: false,
    detail: `no ${what}: a newer kernel is needed`,
  }));

const refused = (what: string, detail: string): KvmProbe => ({
  usable: false,
  findings: [{ what, ok: false, detail }],
});
