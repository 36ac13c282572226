import { fstatSync } from "node:fs";
import { InvalidArgumentError } from "commander";
import { SlottedGuestMemory } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { CliHost } from "../host.ts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { collect } from "../commands/validate.ts";
import { endOnSignals, onUncaught } from "../run/end-on-signals.ts";
import { createLoneDevice, type LoneDeviceOptions } from "./lone-device.ts";
import { qemuArguments, qemuHint, SHARED_MEMORY } from "./qemu-arguments.ts";

interface VhostUserFlags extends Omit<LoneDeviceOptions, "device"> {
  readonly socket?: string;
  readonly fd?: number;
  readonly packed?: true;
  readonly inOrder?: true;
  readonly sealedMemory?: true;
}

const EXAMPLES = `
DEVICE is the name of a plugin (virtioBlk, or blk for short), a module of one's own that exports a plugin, or with
--machine the id of a device in a machine config.

  northbridge vhost-user blk --socket blk.sock --set disk.kind=file --set disk.path=disk.img
  northbridge vhost-user rng --socket rng.sock
  northbridge vhost-user ./thermometer.ts --socket thermo.sock --set celsius=21
  northbridge vhost-user disk0 --machine machine.yaml --socket disk0.sock

Prints the arguments with which a stock QEMU uses the device, and serves it until it is interrupted. A front end that
goes may come back, and a device that is started again goes on where it was.`;

export const registerVhostUser: RegisterCommand = (program, host, exit) => {
  program
    .command("vhost-user")
    .description("serve a virtio device to another virtual machine monitor, such as QEMU")
    .argument("<DEVICE>", "a plugin, a module or a device of a machine config")
    .option("--socket <PATH>", "listen at this Unix socket; nobody may listen there yet")
    .option("--fd <NUMBER>", "serve the connected socket this process was given, and end with it", descriptor)
    .option("--machine <FILE>", "take the device from this machine config")
    .option("--set <PATH=VALUE>", "set one option of the device, or of the machine config", collect, [])
    .option("--packed", "offer packed rings")
    .option("--in-order", "offer to use buffers in order")
    .option("--sealed-memory", "refuse memory that could be cut off while it is in use")
    .addHelpText("after", EXAMPLES)
    .action(async (device: string, flags: VhostUserFlags) => {
      exit(await serve({ ...flags, device }, host));
    });
};

function descriptor(text: string): number {
  const fd = Number(text);
  if (!/^\d+$/.test(text) || fd < 3) {
    throw new InvalidArgumentError(`Expected the number of a descriptor from 3, found "${text}".`);
  }
  return fd;
}

/** Throws `NB_CONFIG` where this process was given no such descriptor, or something else than a socket. */
function expectSocket(fd: number): void {
  let found = "no descriptor of that number";
  try {
    if (fstatSync(fd).isSocket()) return;
    found = "something else";
  } catch {
    // There is none.
  }
  throw new NorthbridgeError(
    "NB_CONFIG",
    `vhost-user: --fd ${fd}: expected a connected socket, found ${found}`,
  );
}

async function serve(options: VhostUserFlags & LoneDeviceOptions, host: CliHost): Promise<number> {
  const { socket, fd, packed, inOrder, sealedMemory } = options;
  if ((socket === undefined) === (fd === undefined)) {
    throw new NorthbridgeError("NB_CONFIG", "vhost-user: expected one of --socket and --fd");
  }
  if (fd !== undefined) expectSocket(fd);
  const say = (line: string): void => void host.stderr.write(`northbridge: ${line}\n`);
  const lone = await createLoneDevice(options, await host.registry(), say);
  const { device, name } = lone;
  const { VhostUserBackend } = await import("@northbridge/vhost-user");
  const backend = new VhostUserBackend({
    device,
    name: lone.id,
    createMemory: (slots, written) => new SlottedGuestMemory(slots, written),
    say,
    ...(packed && { packed }),
    ...(inOrder && { inOrder }),
    ...(sealedMemory && { sealedMemory }),
  });
  const ended = Promise.withResolvers<number>();
  const giveSignalsBack = endOnSignals(ended.resolve);
  const letThrow = onUncaught(ended.reject, (error) => lone.blame(error));
  void lone.failure.then(ended.reject);
  try {
    if (fd !== undefined) {
      void backend.serve(fd).then(() => {
        ended.resolve(0);
      }, ended.reject);
    } else if (socket !== undefined) {
      backend.listen(socket);
      const forQemu = qemuArguments(device, socket);
      host.stdout.write(
        forQemu === undefined
          ? `${name}: listening at ${socket}; QEMU has no front end for virtio devices of ID ${device.deviceId}\n`
          : `${name}: listening at ${socket}; for QEMU:\n${SHARED_MEMORY} ${forQemu}\n`,
      );
      const hint = qemuHint(device);
      if (hint !== undefined) say(hint);
    }
    return await ended.promise;
  } finally {
    giveSignalsBack();
    letThrow();
    await backend.close();
    await lone.close();
  }
}
