import { type VirtioDevice, virtioSpec } from "@northbridge/sdk/virtio";

const { DeviceId } = virtioSpec;
const [I2C, GPIO] = [34, 41];

/** QEMU connects again, once a second, to a back end that went away: where its device survives that. */
const RECONNECT = ",reconnect=1";

/**
 * What gives a stock QEMU the device behind `socket`; `undefined` where QEMU 7.2 has no front end for its kind. Memory
 * that is shared comes on top (`SHARED_MEMORY`).
 */
export function qemuArguments(device: VirtioDevice, socket: string): string | undefined {
  const chardev = (more = ""): string => `-chardev socket,id=northbridge,path=${socket}${more}`;
  const plain = (kind: string, more = ""): string =>
    `${chardev()} -device ${kind},chardev=northbridge${more}`;
  const queues = device.queues.length;
  switch (device.deviceId) {
    case DeviceId.NET: {
      const pairs = queues >> 1; // and a control queue
      const [link, more] = pairs === 1 ? ["", ""] : [`,queues=${pairs}`, `,mq=on,vectors=${2 * pairs + 2}`];
      const card = `virtio-net-pci,netdev=northbridge-net,mac=${macOf(device.config)}${more}`;
      return `${chardev(RECONNECT)} -netdev vhost-user,id=northbridge-net,chardev=northbridge${link} -device ${card}`;
    }
    case DeviceId.BLOCK:
      return `${chardev(RECONNECT)} -device vhost-user-blk-pci,chardev=northbridge,num-queues=${queues}`;
    case DeviceId.RNG:
      return plain("vhost-user-rng-pci");
    case DeviceId.SCSI:
      return plain("vhost-user-scsi-pci", `,num_queues=${queues - 2}`);
    case DeviceId.INPUT:
      return plain("vhost-user-input-pci");
    case DeviceId.VSOCK:
      return plain("vhost-user-vsock-pci");
    case DeviceId.FS:
      return plain("vhost-user-fs-pci", `,tag=${tagOf(device.config)},num-request-queues=${queues - 1}`);
    case I2C:
      return plain("vhost-user-i2c-pci");
    case GPIO:
      return plain("vhost-user-gpio-pci");
    default:
      return undefined;
  }
}

/** What else a person must know who uses the arguments. */
export function qemuHint(device: VirtioDevice): string | undefined {
  return device.deviceId === DeviceId.NET
    ? "QEMU 7.2 without KVM ends with SIGSEGV when a vhost-user card uses MSI-X: add ,vectors=0 to the -device there"
    : undefined;
}

/** Guest memory that another process can map. */
export const SHARED_MEMORY =
  "-m 512M -object memory-backend-memfd,id=memory,size=512M,share=on -machine memory-backend=memory";

const macOf = (config: Uint8Array): string =>
  Array.from(config.subarray(0, 6), (byte) => byte.toString(16).padStart(2, "0")).join(":");

/** virtio 1.3 §5.11.4: 36 bytes of UTF-8, padded with zeros. */
const tagOf = (config: Uint8Array): string =>
  new TextDecoder().decode(config.subarray(0, 36)).replace(/\0+$/, "");
