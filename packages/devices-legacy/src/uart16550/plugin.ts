import {
  type CharEnd,
  type ConfigSchema,
  Console,
  definePlugin,
  type DevicePlugin,
  type HostEndOptions,
  HostEnds,
} from "@northbridge/sdk";
import * as v from "valibot";
import { type FlowControl, Uart16550 } from "./uart16550.ts";

/** Where the guest finds the port: its I/O base and IRQ. */
export type SerialPosition = "com1" | "com2" | "com3" | "com4";

export interface SerialConfig {
  /** @defaultValue `"com1"` */
  readonly at?: SerialPosition | undefined;
  /** What it is connected to: `{ kind: file, path: com2.log }` or another character back end. @defaultValue of com1 the console */
  readonly to?: HostEndOptions | undefined;
  /**
   * `rts`: input waits until the guest asserts RTS, so that none is lost while its driver still looks for the port.
   * `none`: for guests that never do. @defaultValue `"rts"`
   */
  readonly flowControl?: FlowControl | undefined;
}

interface ParsedConfig extends SerialConfig {
  readonly at: SerialPosition;
  readonly flowControl: FlowControl;
}

const Position: Readonly<
  Record<SerialPosition, { readonly base: number; readonly irq: number; readonly uid: number }>
> = {
  com1: { base: 0x3f8, irq: 4, uid: 0 },
  com2: { base: 0x2f8, irq: 3, uid: 1 },
  com3: { base: 0x3e8, irq: 4, uid: 2 },
  com4: { base: 0x2e8, irq: 3, uid: 3 },
};

const Config: ConfigSchema<SerialConfig, ParsedConfig> = v.pipe(
  v.strictObject({
    at: v.optional(v.picklist(["com1", "com2", "com3", "com4"]), "com1"),
    to: v.optional(v.looseObject({ kind: v.string() })),
    flowControl: v.optional(v.picklist(["none", "rts"]), "rts"),
  }),
  // Two readers of one console would take each other's input.
  v.forward(
    v.check(
      ({ at, to }) => at === "com1" || to !== undefined,
      "expected a character back end, as { kind: socket, path: com.sock }, or { kind: console } for com1's",
    ),
    ["to"],
  ),
);

/** A 16550A serial port: output at once, input with back-pressure. */
export const serial: DevicePlugin<SerialConfig> = definePlugin({
  name: "@northbridge/devices-legacy/serial",
  config: Config,
  requires: [Console, HostEnds],
  ends: { to: "char" },
  async setup(ctx, { at, to, flowControl }) {
    const { base, irq, uid } = Position[at];
    const end: CharEnd = to === undefined ? ctx.get(Console) : await ctx.get(HostEnds).char(to);
    if (to !== undefined) ctx.onClose(() => end.close?.());
    const uart = new Uart16550({
      irq: ctx.irq(irq),
      tx: end,
      onRoom: () => {
        end.resume();
      },
      flowControl,
    });
    ctx.mapPorts({ base, length: Uart16550.PORT_COUNT, widest: 1 }, uart);
    ctx.describe({
      kind: "acpiDevice",
      name: at.toUpperCase(),
      hid: "PNP0501",
      uid,
      ports: [{ base, length: Uart16550.PORT_COUNT }],
      irqs: [{ gsi: irq, level: false, activeLow: false, shared: false }],
    });
    end.connect((bytes) => uart.receive(bytes));
    return uart;
  },
});
