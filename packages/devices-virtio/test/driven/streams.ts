import type { HostStream, HostStreamListener, VsockBackend } from "@northbridge/sdk";
import { FakeCharBackend, FakeNet } from "@northbridge/sdk/testing";
import { VirtioConsole, VirtioNet, VirtioVsock } from "@northbridge/devices-virtio";
import fc from "fast-check";
import { type DrivenDevice, u16, u32 } from "./driven-device.ts";

/** The host's ends of streams: whatever comes from the device is accepted, and some of it answered. */
export class Streams implements VsockBackend {
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

export const vsock: DrivenDevice = {
  name: "vsock",
  underWay: [],
  host: () => {
    const backend = new Streams();
    return {
      device: () => new VirtioVsock({ backend, cid: 3 }),
      act: (choice) => {
        backend.act(choice);
      },
    };
  },
  head: vsockHead,
  lengths: [4, 44, 48, 512],
  shapes: [
    [[44], []],
    [[44, 512], []],
    [[], [512]],
    [[], [44, 512]],
    [[], [8]],
  ],
};

export const netCard: DrivenDevice = {
  name: "net",
  underWay: ["kept", "waiting"],
  host: () => {
    const backend = new FakeNet();
    let current: VirtioNet | undefined;
    return {
      device: () =>
        (current = new VirtioNet({ backend, mac: Uint8Array.of(0x52, 0x54, 0, 1, 2, 3), pairs: 2 })),
      act: (choice) => {
        backend.sent.length = 0;
        if (choice % 4 === 0) backend.isFull = choice % 8 === 0;
        else if (choice % 4 === 1) current?.setLink(choice % 8 === 1);
        else if (backend.waiting < 100) backend.deliver(new Uint8Array(14 + (choice % 3000)).fill(0xff));
      },
    };
  },
  head: netHead,
  lengths: [1, 2, 12, 64, 512, 2048],
  shapes: [
    [[12, 64], []],
    [[12, 512, 2048], []],
    [[], [2048]],
    [[], [12, 512]],
    [[2, 12], [1]],
    [[2, 2], [1]],
  ],
};

export const serialPorts: DrivenDevice = {
  name: "console",
  underWay: ["waiting"],
  host: () => {
    const backends = [new FakeCharBackend(), new FakeCharBackend(), new FakeCharBackend()] as const;
    const [backend, a, b] = backends;
    let current: VirtioConsole | undefined;
    return {
      device: () =>
        (current = new VirtioConsole({
          backend,
          ports: [
            { name: "a", backend: a },
            { name: "b", backend: b },
          ],
        })),
      act: (choice) => {
        const port = backends[choice % 3];
        if (choice % 5 === 0) port?.setPresent(choice % 2 === 0);
        else if (choice % 5 === 1) current?.resize(choice & 0xff, 25);
        else if (choice % 5 === 2) port?.setRoom(choice % 200);
        else if ((port?.waiting ?? 0) < 10_000) port?.type("x".repeat(choice % 100));
      },
    };
  },
  head: fc
    .record({ id: fc.nat(3), event: fc.nat(8), value: fc.nat(1) })
    .map(({ id, event, value }) => [...u32(id), ...u16(event), ...u16(value)]),
  lengths: [1, 7, 8, 12, 64],
  shapes: [
    [[8], []],
    [[64], []],
    [[], [64]],
    [[], [12]],
  ],
};
