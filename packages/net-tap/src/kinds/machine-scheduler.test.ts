import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { arp, field, GuestCard, guestMac } from "../../test/guest-card.ts";
import { Flag, GuestTcp, until } from "../../test/guest-tcp.ts";
import { SteppedTime } from "../../test/virtual-time.ts";
import { user } from "../user/user-net.ts";
import { MachineScheduler } from "./machine-scheduler.ts";

/** A machine's clock over a host's time: it stands still while `isPaused`. */
class PausedTime {
  readonly host: SteppedTime = new SteppedTime();
  readonly scheduler: MachineScheduler;
  isPaused = false;
  #paused = 0;

  constructor(kind: "realtime" | "virtual" = "realtime") {
    const nowNs = (): number => (this.host.nowMs() - this.#paused) * 1e6;
    const createTimer = (): never => {
      throw new Error("a timer of the clock");
    };
    this.scheduler = new MachineScheduler({ kind, epochMs: 0, nowNs, createTimer }, this.host);
  }

  pass(ms: number): void {
    // The pause grows as it passes: what comes due in it must find the clock where it was.
    for (let left = ms; left > 0; left -= 10) {
      if (this.isPaused) this.#paused += Math.min(10, left);
      this.host.pass(Math.min(10, left));
    }
  }
}

describe("the time of a machine's back ends", () => {
  it("is the host's but for pauses: what comes due in one comes after it, that much later", () => {
    const time = new PausedTime();
    const fired: number[] = [];
    for (const delay of [100, 1000, 1020])
      time.scheduler.after(delay, () => fired.push(time.scheduler.nowMs()));
    time.scheduler.after(1010, () => fired.push(NaN)).cancel();
    time.pass(990);
    expect(fired).toEqual([100]);
    time.isPaused = true;
    const cancelled = time.scheduler.after(30, () => fired.push(NaN));
    time.pass(60_000);
    cancelled.cancel();
    expect([fired.length, Math.round(time.scheduler.nowMs())]).toEqual([1, 990]);
    time.isPaused = false;
    time.pass(200);
    expect(fired.length).toBe(3);
    // Late by what it takes to see that the machine goes on again.
    expect(fired[1]).toBeGreaterThanOrEqual(1000);
    expect(fired[2]).toBeLessThanOrEqual(1020 + 60);
  });

  it("has a timer that another one cancels never fire, though both were late", () => {
    const time = new PausedTime();
    const fired: string[] = [];
    time.isPaused = true;
    time.scheduler.after(10, () => {
      fired.push("first");
      second.cancel();
    });
    const second = time.scheduler.after(10, () => fired.push("second"));
    time.pass(200);
    time.isPaused = false;
    time.pass(200);
    expect(fired).toEqual(["first"]);
  });

  it("is the host's under a virtual clock, which executed instructions drive", () => {
    const time = new PausedTime("virtual");
    let fired = 0;
    time.scheduler.after(100, () => (fired += 1));
    time.isPaused = true;
    time.pass(100);
    expect(fired).toBe(1);
  });

  it("leaves a connection alone while the machine is paused, for longer than a silent guest is waited for", async () => {
    const heard: number[] = [];
    const server = createServer((socket: Socket) => {
      socket.on("error", () => undefined);
      socket.on("data", (bytes: Uint8Array) => heard.push(...bytes));
      socket.write("hello");
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const time = new PausedTime();
    const hostPort = (server.address() as AddressInfo).port;
    const net = await user({ scheduler: time.scheduler, hostPorts: [{ guestPort: 80, hostPort }] });
    const card = new GuestCard(net);
    await card.answers(arp(1, guestMac, "10.0.2.15", "10.0.2.2"));
    const connection = await GuestTcp.open(card, 4000, 80);
    const isReset = (): boolean => (connection.flags & Flag.RST) !== 0;
    // `hello`, which the guest never acknowledges.
    await until(() => connection.last !== undefined && (field.tcpFlags(connection.last) & Flag.SYN) === 0);

    time.isPaused = true;
    for (let minute = 0; minute < 10; minute += 1) time.pass(60_000);
    expect(isReset()).toBe(false);
    time.isPaused = false;
    connection.send(Flag.ACK, [1, 2, 3]);
    await until(() => heard.length === 3);
    // The same without a pause ends it.
    for (let minute = 0; minute < 20 && !isReset(); minute += 1) time.pass(60_000);
    expect(isReset()).toBe(true);
    await net.close();
    server.close();
  });
});
