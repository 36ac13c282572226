import { probeKvm } from "../src/index.ts";

const { usable, findings } = probeKvm();
if (!usable) console.log(`KVM tests skip: ${findings.map(({ detail }) => detail).join("; ")}`);

/** Whether this host's KVM can be used; says why not where it cannot. */
export const hasKvm: boolean = usable;
