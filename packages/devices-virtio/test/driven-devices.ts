import type { BlockBackend, HostStream, HostStreamListener, VsockBackend } from "@northbridge/sdk";
import { FakeCharBackend, FakeNet } from "@northbridge/sdk/testing";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import {
  VirtioBalloon,
  VirtioBlk,
  VirtioConsole,
  VirtioInput,
  VirtioNet,
  VirtioRng,
  VirtioScsi,
  VirtioVsock,
} from "@northbridge/devices-virtio";
import fc from "fast-check";

/** A device for property tests: how to make it, what requests to it look like, and what happens at its other end. */
export interface DrivenDevice {
  readonly name: string;
  readonly make: () => { readonly device: VirtioDevice; readonly act?: (choice: number) => void };
  /** First bytes of requests, biased to what the device knows. */
  readonly head: fc.Arbitrary<readonly number[]>;
  /** Lengths of buffers. */
  readonly lengths: readonly number[];
}

const u16 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff];
const u32 = (value: number): number[] => [...u16(value & 0xffff), ...u16(value >>> 16)];

/** A disk without memory: reads change nothing, so that two of them are alike. */
const disk = (): BlockBackend => ({
  size: 81_920,
  blockSize: 512,
  readOnly: false,
  read: () => Promise.resolve(),
  write: () => Promise.resolve(),
  flush: () => Promise.resolve(),
  discard: () => Promise.resolve(),
  writeZeroes: () => Promise.resolve(),
  close: () => Promise.resolve(),
});

/** The host's ends of streams: whatever comes from the device is accepted, and some of it answered. */
class Streams implements VsockBackend {
  readonly #listeners: HostStreamListener[] = [];
  #accept: (port: number, stream: HostStream) => HostStreamListener | undefined = () => undefined;

  connect(_port: number, listener: HostStreamListener): HostStream {
    this.#listeners.push(listener);
    return this.#stream(() => listener);
  }

  onConnect(accept: (port: number, stream: HostStream) => HostStreamListener | undefined): void {
    this.#accept = accept;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  act(choice: number): void {
    const listener = this.#listeners[(choice >> 3) % Math.max(1, this.#listeners.length)];
    switch (choice % 7) {
      case 0: {
        const end: { listener?: HostStreamListener | undefined } = {};
        end.listener = this.#accept(
          choice % 3,
          this.#stream(() => end.listener),
        );
        if (end.listener !== undefined) this.#listeners.push(end.listener);
        break;
      }
      case 1:
      case 2:
        listener?.connected();
        break;
      case 3:
        listener?.receive(new Uint8Array(choice % 300));
        break;
      case 4:
        listener?.written(choice % 50);
        break;
      case 5:
        listener?.ended();
        break;
      default:
        listener?.closed();
    }
  }

  #stream(listener: () => HostStreamListener | undefined): HostStream {
    return {
      accepted: () => undefined,
      write: () => undefined,
      end: () => undefined,
      close: () => undefined,
      resume: () => listener()?.receive(new Uint8Array(3)),
    };
  }
}

const word = fc.constantFrom(0, 1, 2, 3, 52, 1000, 0xffff_ffff);

const vsockHead = fc
  .record({
    cid: fc.constantFrom(3, 3, 3, 4),
    ports: fc.tuple(fc.nat(2), fc.nat(2)),
    length: fc.constantFrom(0, 4, 4, 468, 0xffff_ffff),
    op: fc.nat(8),
    flags: fc.nat(3),
    credit: fc.tuple(word, word),
  })
  .map(({ cid, ports, length, op, flags, credit }) => [
    ...[...u32(cid), ...u32(0), ...u32(2), ...u32(0), ...u32(ports[0]), ...u32(ports[1])],
    ...[...u32(length), ...u16(1), ...u16(op), ...u32(flags), ...u32(credit[0]), ...u32(credit[1])],
  ]);

const scsiHead = fc.oneof(
  fc
    .record({
      target: fc.nat(2),
      op: fc.constantFrom(
        ...[
          0, 3, 8, 0x0a, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2f, 0x35, 0x41, 0x42, 0x43, 0x46, 0x4a,
        ],
        ...[0x51, 0x5a, 0x88, 0x8a, 0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa, 0xff],
      ),
      rest: fc.array(fc.constantFrom(0, 0, 0, 1, 2, 8, 0x10, 0x3f, 0xff), { minLength: 15, maxLength: 15 }),
    })
    .map(({ target, op, rest }) => [
      1,
      target,
      0,
      0,
      0,
      0,
      0,
      0,
      ...new Array<number>(11).fill(0),
      op,
      ...rest,
    ]),
  // Task management, as long as a command's fixed part is not.
  fc
    .record({ subtype: fc.nat(8), target: fc.nat(2) })
    .map(({ subtype, target }) => [
      ...[...u32(0), ...u32(subtype), 1, target],
      ...new Array<number>(14).fill(0),
    ]),
);

const ethernet = [0x52, 0x54, 0, 1, 2, 3, 0x52, 0x54, 0, 1, 2, 4, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6];

const netHead = fc.oneof(
  fc
    .record({
      flags: fc.constantFrom(0, 1),
      gso: fc.constantFrom(0, 1, 4, 5, 0x81, 3),
      size: fc.constantFrom(0, 1, 100, 1460),
      start: fc.constantFrom(34, 14, 54, 0xffff),
      offset: fc.constantFrom(16, 6, 0xffff),
    })
    .map(({ flags, gso, size, start, offset }) => [
      ...[flags, gso, 0, 0, ...u16(size), ...u16(start), ...u16(offset), 0, 0],
      ...ethernet,
      ...new Array<number>(22).fill(0),
      0x50,
    ]),
  fc
    .record({ kind: fc.nat(6), command: fc.nat(6), data: fc.array(fc.nat(4), { maxLength: 12 }) })
    .map(({ kind, command, data }) => [kind, command, ...data]),
);

const anyHead = fc.nat(14).map(u32);
const anyLengths = [1, 12, 16, 20, 512, 2048];

/** Every device of this package. `VirtioFs` has tests of its own kind. */
export const drivenDevices: readonly DrivenDevice[] = [
  {
    name: "blk",
    make: () => ({ device: new VirtioBlk({ backend: disk(), serial: "x", queueSize: 8 }) }),
    head: anyHead,
    lengths: anyLengths,
  },
  {
    name: "rng",
    make: () => ({ device: new VirtioRng({ entropy: { fill: (into) => into.fill(0x5a) } }) }),
    head: anyHead,
    lengths: anyLengths,
  },
  {
    name: "balloon",
    make: () => ({ device: new VirtioBalloon() }),
    // Pages behind the buffers of the test, where they are memory: what is in them is lost.
    head: fc.oneof(
      fc.constantFrom(u32(0xffff_ffff), [...u32(0xf0), ...u32(0xf1)], u32(0x100), u32(0)),
      anyHead.map(([n = 0]) => u32(0xe0 + n)),
    ),
    lengths: anyLengths,
  },
  {
    name: "console",
    make: () => {
      const backends = [new FakeCharBackend(), new FakeCharBackend(), new FakeCharBackend()] as const;
      const [backend, a, b] = backends;
      const device = new VirtioConsole({
        backend,
        ports: [
          { name: "a", backend: a },
          { name: "b", backend: b },
        ],
      });
      return {
        device,
        act: (choice) => {
          const port = backends[choice % 3];
          if (choice % 5 === 0) port?.setPresent(choice % 2 === 0);
          else if (choice % 5 === 1) device.resize(choice & 0xff, 25);
          else if ((port?.waiting ?? 0) < 10_000) port?.type("x".repeat(choice % 100));
        },
      };
    },
    head: fc
      .record({ id: fc.nat(3), event: fc.nat(8), value: fc.nat(1) })
      .map(({ id, event, value }) => [...u32(id), ...u16(event), ...u16(value)]),
    lengths: [1, 7, 8, 12, 64],
  },
  {
    name: "net",
    make: () => {
      const backend = new FakeNet();
      const device = new VirtioNet({ backend, mac: Uint8Array.of(0x52, 0x54, 0, 1, 2, 3), pairs: 2 });
      return {
        device,
        act: (choice) => {
          if (choice % 4 === 0) backend.isFull = choice % 8 === 0;
          else if (choice % 4 === 1) device.setLink(choice % 8 === 1);
          else if (backend.waiting < 100) backend.deliver(new Uint8Array(14 + (choice % 3000)).fill(0xff));
        },
      };
    },
    head: netHead,
    lengths: [1, 2, 12, 64, 512, 2048],
  },
  {
    name: "vsock",
    make: () => {
      const backend = new Streams();
      return {
        device: new VirtioVsock({ backend, cid: 3 }),
        act: (choice) => {
          backend.act(choice);
        },
      };
    },
    head: vsockHead,
    lengths: [4, 44, 48, 512],
  },
  {
    name: "scsi",
    make: () => {
      const device = new VirtioScsi({
        targets: [
          { type: "disk", backend: disk(), serial: "d" },
          { type: "cdRom", backend: { ...disk(), readOnly: true }, serial: "c" },
        ],
      });
      return {
        device,
        act: (choice) => {
          device.resized(choice % 2);
        },
      };
    },
    head: scsiHead,
    lengths: [1, 16, 24, 51, 108, 512, 620],
  },
  {
    name: "input",
    make: () => {
      const device = new VirtioInput({ kind: "keyboard" });
      return { device, act: (choice) => void device.report([[1, choice & 0x7f, choice & 1]]) };
    },
    head: fc
      .record({ code: fc.nat(3), value: fc.nat(2) })
      .map(({ code, value }) => [0x11, 0, code, 0, value]),
    lengths: [1, 7, 8, 64],
  },
];
