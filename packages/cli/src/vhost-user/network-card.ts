import { parseMac } from "@northbridge/devices-virtio";
import * as v from "valibot";

/** Descriptors of each queue, as the guest sees it. */
export const QUEUE_SIZE = 256;

/** Feature bits of network devices (virtio 1.3 §5.1.3). */
export const Feature = {
  CSUM: 0,
  GUEST_CSUM: 1,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  MRG_RXBUF: 15,
  STATUS: 16,
} as const;

/** `struct virtio_net_config` (§5.1.4). */
export const Config = { MAC: 0, STATUS: 6, MTU: 10, LENGTH: 12 } as const;
export const LINK_UP = 1;

/** Options of a card whose frames this process does not see. */
export const cardOptions: {
  readonly mac: v.OptionalSchema<v.GenericSchema<string>, undefined>;
  readonly slot: v.OptionalSchema<v.GenericSchema<number>, undefined>;
} = {
  mac: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (text) => parseMac(text) !== undefined,
        "expected a unicast MAC address such as 52:54:00:12:34:56",
      ),
    ),
  ),
  slot: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(31))),
};

export interface CardConfig {
  /** `52:54:00:12:34:56`, a unicast address. @defaultValue made of the device's id */
  readonly mac?: string | undefined;
  /** Device number on the PCI bus, 1–31. @defaultValue the lowest free one */
  readonly slot?: number | undefined;
}
