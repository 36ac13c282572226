/** Network device. Names and numbers: virtio 1.3 §5.1. */

export const Feature = { MTU: 3, MAC: 5, MRG_RXBUF: 15, STATUS: 16 } as const;

/** struct virtio_net_config (§5.1.4). */
export const Config = { MAC: 0, STATUS: 6, MAX_VIRTQUEUE_PAIRS: 8, MTU: 10, LENGTH: 12 } as const;
export const LinkStatus = { LINK_UP: 1, ANNOUNCE: 2 } as const;

export const RECEIVE_QUEUE = 0;
export const TRANSMIT_QUEUE = 1;

/** struct virtio_net_hdr (§5.1.6). */
export const Header = { FLAGS: 0, GSO_TYPE: 1, NUM_BUFFERS: 10, LENGTH: 12 } as const;

/** Largest frame: 64 KiB of segmentation offload and an Ethernet header with a VLAN tag. */
export const MAX_FRAME = 65_553;
