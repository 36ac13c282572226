import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { VcpuState } from "@northbridge/sdk";
import { STUB, stub } from "./qemu-hypervisor.ts";

/** Registers before an instruction, by name. */
export type Window = Readonly<Record<string, bigint>>;

const GPRS = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"] as const;
const HIGH = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const;
const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"] as const;
const RF = 0x10000n;
/** Of 512 bytes. */
const MOST_LOG_BLOCKS = 200_000;
const FAMILY = /([RE][A-Z0-9]{1,2} ?|CPL|CR[0-4]|EFER)=([0-9a-f]+)/g;
const SEGMENT = /^([CDEFGS]S |LDT|TR ) *=([0-9a-f]{4}) ([0-9a-f]+)/;

/** A processor's state as a window. */
export function windowOf(state: VcpuState, cpl: number): Window {
  const { regs, sregs } = state;
  const window: Record<string, bigint> = { rip: regs.rip, rfl: regs.rflags & ~RF, cpl: BigInt(cpl) };
  for (const name of [...GPRS, ...HIGH]) window[name] = regs[name];
  for (const name of ["cr0", "cr2", "cr3", "cr4", "efer"] as const) window[name] = sregs[name];
  for (const name of SEGMENTS) {
    window[name] = BigInt(sregs[name].selector);
    if (name === "fs" || name === "gs") window[`${name}.base`] = sregs[name].base;
  }
  window["ldt"] = BigInt(sregs.ldt.selector);
  window["tr"] = BigInt(sregs.tr.selector);
  return window;
}

/** Outside 64-bit mode QEMU shows the low halves, by their own names. */
const nameOf = (shown: string): string => {
  const name = shown.trim().toLowerCase();
  return name.startsWith("e") && name !== "efer" ? `r${name.slice(1)}` : name;
};

/** What differs between a window of ours and one of QEMU's, which may show halves and leave registers out. */
export function differences(ours: Window, theirs: Window): string[] {
  const mask = theirs["r8"] === undefined ? 0xffffffffn : (1n << 64n) - 1n;
  return Object.entries(theirs)
    .filter(([name, value]) => ours[name] !== undefined && ((ours[name] ^ value) & mask) !== 0n)
    .map(([name, value]) => `${name} ${ours[name]?.toString(16) ?? "?"}, QEMU ${value.toString(16)}`);
}

function parse(log: string): Window[] {
  const windows: Window[] = [];
  let window: Record<string, bigint> = {};
  for (const line of log.split("\n")) {
    if (/^[RE]AX=/.test(line)) {
      window = {};
      windows.push(window);
    }
    const [, segment, selector, base] = SEGMENT.exec(line) ?? [];
    if (segment !== undefined) {
      const name = segment.trim().toLowerCase();
      window[name] = BigInt(`0x${selector ?? ""}`);
      if (name === "fs" || name === "gs") window[`${name}.base`] = BigInt(`0x${base ?? ""}`);
      continue;
    }
    for (const [, name = "", value = ""] of line.matchAll(FAMILY))
      window[nameOf(name)] = BigInt(`0x${value}`);
    if (window["rfl"] !== undefined) window["rfl"] &= ~RF;
  }
  return windows;
}

/**
 * Windows of QEMU's TCG, one before each instruction whose linear address is in `[from, from + length)` and in
 * `also`, of `ram` started in `state`.
 */
export function qemuWindows(
  program: string,
  state: VcpuState,
  ram: Uint8Array,
  ranges: readonly (readonly [from: number, length: number])[],
): Window[] {
  const directory = mkdtempSync(join(tmpdir(), "northbridge-qemu-"));
  try {
    const image = join(directory, "image");
    const log = join(directory, "log");
    const bytes = new Uint8Array(STUB + ram.length);
    bytes.set(stub(state, ram.length));
    bytes.set(ram, STUB);
    writeFileSync(image, bytes);
    const filter = ranges
      .map(([from, length]) => `0x${from.toString(16)}+0x${length.toString(16)}`)
      .join(",");
    const machine = ["-M", "pc", "-accel", "tcg", "-cpu", "max,vendor=GenuineIntel", "-m", "64"];
    const quiet = ["-nodefaults", "-display", "none", "-no-reboot", "-kernel", image];
    const trace = ["-singlestep", "-d", "nochain,cpu", "-dfilter", filter, "-D", log];
    // The log of a program that goes astray must not fill the disk.
    const bounded = [
      "-c",
      `ulimit -f ${MOST_LOG_BLOCKS}; exec "$@"`,
      "sh",
      program,
      ...machine,
      ...quiet,
      ...trace,
    ];
    spawnSync("sh", bounded, { stdio: "ignore", timeout: 8_000, killSignal: "SIGKILL" });
    return parse(readFileSync(log, "latin1"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
