import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMachine, type PluginRegistry } from "@northbridge/core";
import { type ConfigSchema, definePlugin, type DeviceEntry, type Hypervisor } from "@northbridge/sdk";
import { Assembler, at, eax, ebx, ecx } from "@northbridge/sdk/asm";

const ORIGIN = 0x10_0000;
/** Ports of the mailbox: what to do next, where, and with what. */
const Port = { COMMAND: 0x50, ADDRESS: 0x54, VALUE: 0x58 } as const;
const Command = { NONE: 0, READ: 1, WRITE: 2 } as const;

/** 64-bit code that asks the mailbox over and over what to load or store. */
function program(): Uint8Array {
  const a = new Assembler({ origin: ORIGIN });
  a.label("next");
  a.in(eax, Port.COMMAND);
  a.mov(ecx, eax);
  a.cmp(ecx, Command.NONE);
  a.j("z", "next");
  a.in(eax, Port.ADDRESS);
  a.mov(ebx, eax);
  a.in(eax, Port.VALUE);
  a.cmp(ecx, Command.WRITE);
  a.j("z", "write");
  a.mov(eax, at(ebx));
  a.out(Port.VALUE, eax);
  a.jmp("next");
  a.label("write");
  a.mov(at(ebx), eax);
  a.out(Port.VALUE, eax);
  a.jmp("next");
  return a.finish();
}

interface Order {
  readonly command: number;
  readonly address: number;
  readonly value: number;
  readonly done: (value: number) => void;
}

const NoConfig: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "example", validate: (value) => ({ value: value as object }) },
};

/** A guest that loads and stores what the test tells it, so that a processor's own accesses reach the devices. */
export interface BareMetal {
  read32(address: number): Promise<number>;
  write32(address: number, value: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startBareMetal(
  hypervisor: Hypervisor,
  registry: PluginRegistry,
  devices: readonly DeviceEntry[],
): Promise<BareMetal> {
  const directory = await mkdtemp(join(tmpdir(), "northbridge-bare-"));
  const image = join(directory, "guest");
  await writeFile(image, program());
  let order: Order | undefined;
  const mailbox = definePlugin({
    name: "@example/devices/mailbox",
    config: NoConfig,
    setup(ctx) {
      const handler = {
        read(offset: number): number {
          const port = Port.COMMAND + offset;
          if (port === Port.COMMAND) return order?.command ?? Command.NONE;
          return (port === Port.ADDRESS ? order?.address : order?.value) ?? 0;
        },
        write(_offset: number, _width: number, value: number): void {
          const finished = order;
          order = undefined;
          finished?.done(value);
        },
      };
      ctx.mapPorts({ base: Port.COMMAND, length: 12 }, handler);
      return {};
    },
  });
  const machine = await createMachine({
    config: {
      machine: "bare-1",
      memory: { mib: 2 },
      boot: { flat: { image, gpa: ORIGIN, mode: "long" } },
      devices: [mailbox(), ...devices],
    },
    hypervisor,
    registry,
  });
  await machine.start();
  const ask = (command: number, address: number, value: number): Promise<number> =>
    Promise.race([
      new Promise<number>((done) => {
        order = { command, address, value, done };
      }),
      machine.stopped.then((reason) => {
        throw new Error(`the machine stopped: ${JSON.stringify(reason)}`);
      }),
    ]);
  return {
    read32: (address) => ask(Command.READ, address, 0),
    async write32(address, value) {
      await ask(Command.WRITE, address, value);
    },
    async stop() {
      await machine.stop();
      await rm(directory, { recursive: true });
    },
  };
}
