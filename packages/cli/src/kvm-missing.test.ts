import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "northbridge-no-kvm-"));
chmodSync(directory, 0o755); // for the user who may not
const machine = join(directory, "machine.json");
writeFileSync(machine, JSON.stringify({ machine: "bare-1", memory: { mib: 1 } }));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** Puts another `/dev` in place, in a mount namespace of its own, and runs what follows. */
const WITHOUT_DEVICE = [
  "mount -t tmpfs tmpfs /dev",
  "mknod -m 666 /dev/null c 1 3",
  "mknod -m 666 /dev/urandom c 1 9",
  'exec "$@"',
].join(" && ");
const WITH_ANOTHER_DEVICE = 'mount --bind /dev/null /dev/kvm && exec "$@"';

const within = (script: string): readonly string[] => ["unshare", "-m", "sh", "-c", script, "sh"];
const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const can = (prefix: readonly string[]): boolean =>
  spawnSync(prefix[0]!, [...prefix.slice(1), "true"]).status === 0;

function northbridge(
  prefix: readonly string[],
  ...args: readonly string[]
): { readonly code: number | null; readonly out: string; readonly err: string } {
  const all = [...prefix, process.execPath, "--conditions=northbridge-source", MAIN, ...args];
  const { status, stdout, stderr } = spawnSync(all[0]!, all.slice(1), {
    encoding: "utf8",
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  return { code: status, out: stdout, err: stderr };
}

/** A shared object that takes a capability away from KVM, where it can be compiled. */
const shim = join(directory, "old-kvm.so");
const source = fileURLToPath(new URL("testing/old-kvm.c", import.meta.url));
const compiler = spawnSync("gcc", ["-shared", "-fPIC", "-o", shim, source], { encoding: "utf8" });
if (compiler.status !== 0)
  console.log(`an old KVM cannot be had: gcc: ${compiler.error?.message ?? compiler.stderr}`);

const CASES: readonly (readonly [string, readonly string[], RegExp])[] = [
  ["no device", within(WITHOUT_DEVICE), /\/dev\/kvm: ENOENT: load kvm_intel or kvm_amd, or enable/],
  ["no permission", asNobody, /\/dev\/kvm: EACCES: no permission: add this user to the group of \/dev\/kvm/],
  ["another device in its place", within(WITH_ANOTHER_DEVICE), /\/dev\/kvm: not KVM: .*ENOTTY/],
  [
    "a KVM of Linux 4.12",
    existsSync(shim) ? ["env", `LD_PRELOAD=${shim}`] : ["gcc"],
    /KVM_CAP_IMMEDIATE_EXIT: no kicks without a race \(Linux 4\.13\): a newer kernel is needed/,
  ],
];

describe.each(CASES)("with %s", (what, prefix, reason) => {
  const skips =
    !existsSync("/dev/kvm") && what !== "no device"
      ? "there is no /dev/kvm here"
      : !can(prefix)
        ? `this user may not: ${prefix.slice(0, 3).join(" ")}`
        : undefined;
  if (skips !== undefined) console.log(`KVM with ${what} skips: ${skips}`);

  it.skipIf(skips !== undefined)("--backend kvm is one line that says so, and exit code 1", () => {
    const { code, out, err } = northbridge(prefix, "run", machine, "--backend", "kvm");
    expect(err).toMatch(reason);
    expect([code, out, err.trim().split("\n").length]).toEqual([1, "", 1]);
  });

  it.skipIf(skips !== undefined)("doctor says so", () => {
    const { code, out } = northbridge(prefix, "doctor");
    expect(out).toMatch(new RegExp(`^missing +kvm backend +${reason.source}`, "m"));
    expect(code).toBe(0);
  });
});
