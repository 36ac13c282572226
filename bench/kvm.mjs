/**
 * `pnpm bench:kvm`: what the KVM backend adds to KVM. A loop in C that does nothing but count exits of the same guest
 * is the peer, in the same run. Reports medians; judges nothing. Needs /dev/kvm, gcc and the built packages.
 *
 * Options: `--exits N` (20000), `--rounds N` (5), `--json FILE`.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RealtimeClock } from "../packages/core/dist/index.js";
import { kvmHypervisor } from "../packages/kvm-backend/dist/index.js";

const { values } = parseArgs({
  options: {
    exits: { type: "string", default: "20000" },
    rounds: { type: "string", default: "5" },
    json: { type: "string" },
  },
});
const exits = Number(values.exits);
const rounds = Number(values.rounds);
const RAM = 0x10000;
const BELL = 0x20000;
/** Real mode: OUT 0E0h, AL; JMP to it. */
const OUT_LOOP = [0xe6, 0xe0, 0xeb, 0xfc];
/** Real mode, ES at the bell: MOV ES:[0], AX; wait until [2000h] changes; remember it; again. */
const PING = [
  ...[0x26, 0xa3, 0x00, 0x00],
  ...[0x39, 0x1e, 0x00, 0x20, 0x74, 0xfa],
  ...[0x8b, 0x1e, 0x00, 0x20, 0xeb, 0xf0],
];
/** Real mode: JMP to itself. */
const SPIN = [0xeb, 0xfe];

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const now = () => Number(process.hrtime.bigint());

async function createVm(code, buses = {}) {
  const clock = new RealtimeClock();
  clock.resume();
  const bus = { read: () => 0xff, write: () => undefined };
  const vm = await kvmHypervisor().createVm({
    vcpus: 1,
    clock,
    memoryBytes: RAM,
    ports: buses.ports ?? bus,
    mmio: buses.mmio ?? bus,
  });
  const { bytes } = vm.addMemory({ name: "ram", gpa: 0, length: RAM });
  bytes.set(code, 0x1000);
  vm.memoryWritten(0, RAM);
  const vcpu = vm.vcpus[0];
  const { regs, sregs, ...rest } = vcpu.getState();
  const flat = { base: 0n, selector: 0 };
  vcpu.setState({
    ...rest,
    regs: { ...regs, rip: 0x1000n },
    sregs: {
      ...sregs,
      cs: { ...sregs.cs, ...flat },
      ds: { ...sregs.ds, ...flat },
      es: { ...sregs.es, base: BigInt(BELL), selector: BELL >> 4 },
    },
  });
  return { vm, vcpu, bytes };
}

/** From one access of the guest to the next, through the machine thread. */
async function forwardedExit() {
  const at = new Float64Array(exits);
  let count = 0;
  const guest = await createVm(OUT_LOOP, {
    ports: {
      read: () => 0xff,
      write: () => {
        if (count < exits) at[count++] = now();
        else guest.vcpu.kick();
      },
    },
  });
  await guest.vcpu.run();
  await guest.vm.close();
  return median(at.subarray(1).map((time, i) => time - at[i]));
}

/** From one access of the guest to the next, answered on the vCPU's thread. */
async function exitOnVcpu() {
  const shared = new SharedArrayBuffer(exits * Float64Array.BYTES_PER_ELEMENT);
  const kick = { read: () => 0xff, write: () => guest.vcpu.kick() };
  const guest = await createVm(OUT_LOOP, { ports: kick });
  const module = new URL("hot-port.mjs", import.meta.url).href;
  guest.vm.shortcuts.ports.onVcpus(0xe0, 1, { module, shared });
  await guest.vcpu.run();
  await guest.vm.close();
  const at = new Float64Array(shared);
  return median(at.subarray(1).map((time, i) => time - at[i]));
}

/** From ring to ring: the guest rings, the device answers in memory, the guest sees it and rings again. */
async function doorbell() {
  const many = Math.min(exits, 5000);
  const at = new Float64Array(many);
  let count = 0;
  const guest = await createVm(PING);
  guest.vm.shortcuts.mmio.doorbell(BELL, {}, () => {
    if (count < many) at[count++] = now();
    else guest.vcpu.kick();
    guest.bytes[0x2000]++;
  });
  await guest.vcpu.run();
  await guest.vm.close();
  return median(at.subarray(1).map((time, i) => time - at[i]));
}

/** Threads of this process, by their kernel's numbers, on one processor each. */
function pin(placement) {
  for (const [tid, processor] of placement)
    execFileSync("taskset", ["-cp", String(processor), String(tid)], { stdio: "ignore" });
}

/** From `kick()` to the end of the run of a guest that executes: medians by where the two threads are. */
async function kicks() {
  const guest = await createVm(SPIN);
  const { pid } = process;
  const allowed = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync("/proc/self/status", "utf8"))[1];
  const processors = allowed.split(/[,-]/).map(Number);
  const [first, last] = [processors[0], processors.at(-1)];
  const free = await kick(guest);
  let across;
  if (first !== last) {
    pin([
      [pid, first],
      [guest.vcpu.tid, last],
    ]);
    across = await kick(guest);
  }
  pin([
    [pid, first],
    [guest.vcpu.tid, first],
  ]);
  const sharing = await kick(guest);
  pin([[pid, allowed]]);
  await guest.vm.close();
  return { kickNs: free, ...(across !== undefined && { kickAcrossNs: across }), kickSharingNs: sharing };
}

async function kick(guest) {
  const times = [];
  for (let i = 0; i < 200; i++) {
    const run = guest.vcpu.run();
    await new Promise((resolve) => setTimeout(resolve, 1));
    const began = now();
    guest.vcpu.kick();
    await run;
    times.push(now() - began);
  }
  return median(times);
}

/** From nothing to the guest's first access. */
async function firstExit() {
  const began = now();
  let took = 0;
  const guest = await createVm(OUT_LOOP, {
    ports: {
      read: () => 0xff,
      write: () => {
        took ||= now() - began;
        guest.vcpu.kick();
      },
    },
  });
  await guest.vcpu.run();
  await guest.vm.close();
  return took;
}

const directory = mkdtempSync(join(tmpdir(), "northbridge-bench-"));
try {
  const program = join(directory, "kvm-exits");
  execFileSync("gcc", ["-O2", "-pthread", "-o", program, new URL("kvm-exits.c", import.meta.url).pathname]);
  const runs = [];
  for (let round = 0; round < rounds; round++) {
    const peer = JSON.parse(execFileSync(program, [String(exits)], { encoding: "utf8" }));
    runs.push({
      peerExitNs: peer.exitNs,
      peerKickNs: peer.kickNs,
      ...(peer.kickAcrossNs !== undefined && { peerKickAcrossNs: peer.kickAcrossNs }),
      peerKickSharingNs: peer.kickSharingNs,
      peerCreateToFirstExitNs: peer.createToFirstExitNs,
      exitOnVcpuNs: await exitOnVcpu(),
      forwardedExitNs: await forwardedExit(),
      doorbellRoundTripNs: await doorbell(),
      ...(await kicks()),
      createToFirstExitNs: await firstExit(),
    });
  }
  const result = Object.fromEntries(
    Object.keys(runs[0]).map((key) => [key, median(runs.map((run) => run[key]))]),
  );
  result.exitOnVcpuRatio = median(runs.map((run) => run.exitOnVcpuNs / run.peerExitNs));
  result.forwardedExitAddsNs = median(runs.map((run) => run.forwardedExitNs - run.peerExitNs));
  result.kickRatio = median(runs.map((run) => run.kickNs / run.peerKickNs));
  const us = (ns) => `${(ns / 1000).toFixed(1)} µs`;
  console.log(`an exit, loop in C            ${us(result.peerExitNs)}`);
  console.log(
    `an exit, on the vCPU's thread  ${us(result.exitOnVcpuNs)}, ${result.exitOnVcpuRatio.toFixed(2)} of C's`,
  );
  console.log(
    `an exit, on the machine thread ${us(result.forwardedExitNs)}, adds ${us(result.forwardedExitAddsNs)}`,
  );
  console.log(`doorbell and answer           ${us(result.doorbellRoundTripNs)}`);
  console.log(`kick to the end of the run    ${us(result.kickNs)} (C: ${us(result.peerKickNs)})`);
  if (result.kickAcrossNs !== undefined)
    console.log(
      `  threads on two processors   ${us(result.kickAcrossNs)} (C: ${us(result.peerKickAcrossNs)})`,
    );
  console.log(
    `  threads on one              ${us(result.kickSharingNs)} (C: ${us(result.peerKickSharingNs)})`,
  );
  console.log(
    `creation to the first exit    ${us(result.createToFirstExitNs)} (C: ${us(result.peerCreateToFirstExitNs)})`,
  );
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ result, runs }, undefined, 2)}\n`);
} finally {
  rmSync(directory, { recursive: true });
}
