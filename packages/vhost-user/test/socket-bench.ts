import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VirtioBench } from "@northbridge/sdk/testing";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import { afterEach, beforeEach, expect, vi } from "vitest";
import { ExternalDevice, SharedRam, type SocketDeviceOptions, VhostUserBackend } from "../src/index.ts";
import { createMemory } from "./devices.ts";
import { turn } from "./raw-front-end.ts";
import { sharedMemory } from "./shared-memory.ts";

const BLOCK = 2;
const SECTOR = 512;

export const RETRY_MS = 1000;

type Connect = Partial<SocketDeviceOptions> & Pick<SocketDeviceOptions, "ram">;

interface Machine {
  readonly device: ExternalDevice;
  readonly bench: VirtioBench;
}

/** A socket, back ends at it and machines that use them, for the tests of a suite: all is gone after each. */
export interface SocketBench {
  readonly socket: () => string;
  readonly closers: (() => void | Promise<void>)[];
  readonly serve: (device: VirtioDevice) => VhostUserBackend;
  readonly connect: (options: Connect) => Promise<ExternalDevice>;
  /** A device in a machine of 1 MiB that has not started it. */
  readonly machine: (options?: Partial<SocketDeviceOptions>) => Promise<Machine>;
  /** As `machine`, started. */
  readonly inMachine: (options?: Partial<SocketDeviceOptions>) => Promise<Machine>;
  readonly until: (what: () => boolean) => Promise<void>;
  /** A read of a sector: whether it has been answered. */
  readonly read: (bench: VirtioBench, sector?: number) => () => boolean;
  /** A back end that does as `act` says with each connection. */
  readonly impostor: (act: (connection: Socket) => void) => Promise<Server>;
}

export function socketBench(): SocketBench {
  let directory: string;
  let socket: string;
  const closers: (() => void | Promise<void>)[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "northbridge-vhost-user-"));
    socket = join(directory, "s.sock");
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
    vi.useRealTimers();
    rmSync(directory, { recursive: true });
  });

  const serve = (device: VirtioDevice): VhostUserBackend => {
    const backend = new VhostUserBackend({ device, createMemory });
    backend.listen(socket);
    closers.push(() => backend.close());
    return backend;
  };
  const connect = async (options: Connect): Promise<ExternalDevice> => {
    const device = await ExternalDevice.connect({
      socket,
      deviceId: BLOCK,
      queues: [16],
      config: 60,
      ...options,
    });
    closers.push(() => {
      device.close();
    });
    return device;
  };
  const machine = async (options: Partial<SocketDeviceOptions> = {}): Promise<Machine> => {
    const memory = sharedMemory();
    const ram = new SharedRam(memory.slots);
    closers.push(() => {
      ram.close();
    });
    const device = await connect({ ram, ...options });
    return { device, bench: new VirtioBench(device, { memory }) };
  };
  const inMachine = async (options: Partial<SocketDeviceOptions> = {}): Promise<Machine> => {
    const made = await machine(options);
    made.bench.start();
    return made;
  };
  const until = async (what: () => boolean): Promise<void> => {
    for (let patience = 5000; patience > 0; patience--) {
      if (what()) return;
      await turn();
    }
    expect.fail(`never came: ${what.toString()}`);
  };
  const read = (bench: VirtioBench, sector = 0): (() => boolean) => {
    const header = bench.allocBytes(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, sector, 0, 0, 0, 0, 0, 0, 0));
    const data = bench.alloc(SECTOR);
    const status = bench.allocBytes(Uint8Array.of(0xff));
    bench.queue(0).add(
      [{ gpa: header, length: 16 }],
      [
        { gpa: data, length: SECTOR },
        { gpa: status, length: 1 },
      ],
    );
    bench.endpoint.notify(0);
    return () => bench.memory.readU8(status) === 0;
  };
  const impostor = async (act: (connection: Socket) => void): Promise<Server> => {
    const server = createServer((connection) => {
      connection.on("error", () => undefined);
      act(connection);
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    closers.push(
      () =>
        new Promise((resolve) =>
          server.close(() => {
            resolve();
          }),
        ),
    );
    return server;
  };
  return { socket: () => socket, closers, serve, connect, machine, inMachine, until, read, impostor };
}
