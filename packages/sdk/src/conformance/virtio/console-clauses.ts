import type { Clause } from "./clause.ts";
import { violated } from "./clause-driver.ts";

const MULTIPORT = 1;
const Event = { DEVICE_READY: 0, DEVICE_ADD: 1 } as const;
const [CONTROL_RECEIVE, CONTROL_TRANSMIT] = [2, 3];
const nothing = new Uint8Array(0);

/** struct virtio_console_control (virtio 1.3 §5.3.6.2). */
function control(id: number, event: number, value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, id, true);
  view.setUint16(4, event, true);
  view.setUint16(6, value, true);
  return bytes;
}

/** Clauses of §5.3. */
export const consoleClauses: readonly Clause[] = [
  {
    section: "5.3.6.2.1",
    says: "the device MUST NOT specify a port which exists in a DEVICE_ADD message, nor one beyond max_nr_ports",
    run: async ({ target, start, skip }) => {
      const config = await target.config(8);
      const driver = await start();
      if (config === undefined || !driver.has(MULTIPORT)) skip("the device offers no ports");
      const most = new DataView((config ?? new Uint8Array(8)).buffer).getUint32(4, true);
      const rooms = Array.from({ length: 32 }, () =>
        driver.offer({ queue: CONTROL_RECEIVE, readable: nothing, writable: 64 }, "plain", true),
      );
      target.notify(CONTROL_RECEIVE);
      const ready = control(0, Event.DEVICE_READY, 1);
      await driver.request({ queue: CONTROL_TRANSMIT, readable: ready, writable: 0 });
      const added: number[] = [];
      const first = rooms[0];
      if (first === undefined || !(await target.until(() => driver.ring(CONTROL_RECEIVE).usedIdx > 0)))
        violated("no port is added");
      await target.linger();
      for (const room of rooms.slice(0, driver.ring(CONTROL_RECEIVE).usedIdx)) {
        const { answer } = await driver.finish(room);
        const view = new DataView(answer.buffer, answer.byteOffset);
        if (view.getUint16(4, true) === Event.DEVICE_ADD) added.push(view.getUint32(0, true));
      }
      if (added.length === 0) violated("no port is added");
      if (new Set(added).size < added.length || added.some((id) => id >= most))
        violated(`ports ${added.join()}, of at most ${most}`);
    },
  },
];
