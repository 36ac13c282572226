import fc from "fast-check";

/**
 * Property tests repeat from run to run: what was green for one commit stays green for it. `NORTHBRIDGE_SEED=random`
 * looks further, `NORTHBRIDGE_SEED=n` repeats a finding.
 */
const wanted = process.env["NORTHBRIDGE_SEED"] ?? "20261123";
if (wanted !== "random") fc.configureGlobal({ seed: Number(wanted) });
