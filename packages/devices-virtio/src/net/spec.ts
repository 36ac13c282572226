/** Network device. Names and numbers: virtio 1.3 §5.1. */

/** Feature bits (§5.1.3). */
export const Feature = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
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
  CTRL_VQ: 17,
  CTRL_RX: 18,
  CTRL_VLAN: 19,
  CTRL_RX_EXTRA: 20,
  GUEST_ANNOUNCE: 21,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
  GUEST_USO4: 54,
  GUEST_USO6: 55,
  HOST_USO: 56,
  SPEED_DUPLEX: 63,
} as const;

/** Features a driver accepts only with another (§5.1.3.1): each, and what it needs one of. */
export const REQUIRES: readonly (readonly [feature: number, needs: readonly number[]])[] = [
  [Feature.GUEST_TSO4, [Feature.GUEST_CSUM]],
  [Feature.GUEST_TSO6, [Feature.GUEST_CSUM]],
  [Feature.GUEST_ECN, [Feature.GUEST_TSO4, Feature.GUEST_TSO6]],
  [Feature.GUEST_USO4, [Feature.GUEST_CSUM]],
  [Feature.GUEST_USO6, [Feature.GUEST_CSUM]],
  [Feature.HOST_TSO4, [Feature.CSUM]],
  [Feature.HOST_TSO6, [Feature.CSUM]],
  [Feature.HOST_ECN, [Feature.HOST_TSO4, Feature.HOST_TSO6]],
  [Feature.HOST_USO, [Feature.CSUM]],
  [Feature.CTRL_RX, [Feature.CTRL_VQ]],
  [Feature.CTRL_RX_EXTRA, [Feature.CTRL_VQ]],
  [Feature.CTRL_VLAN, [Feature.CTRL_VQ]],
  [Feature.GUEST_ANNOUNCE, [Feature.CTRL_VQ]],
  [Feature.MQ, [Feature.CTRL_VQ]],
  [Feature.CTRL_MAC_ADDR, [Feature.CTRL_VQ]],
  [Feature.CTRL_GUEST_OFFLOADS, [Feature.CTRL_VQ]],
];

/** struct virtio_net_config (§5.1.4). */
export const Config = {
  MAC: 0,
  STATUS: 6,
  MAX_VIRTQUEUE_PAIRS: 8,
  MTU: 10,
  SPEED: 12,
  DUPLEX: 16,
  LENGTH: 17,
} as const;
export const LinkStatus = { LINK_UP: 1, ANNOUNCE: 2 } as const;
/** Speed in Mb/s that nobody knows; duplex likewise (§5.1.4). */
export const UNKNOWN = { SPEED: 0xffff_ffff, DUPLEX: 0xff } as const;
export const FULL_DUPLEX = 1;

/** struct virtio_net_hdr (§5.1.6). */
export const Header = {
  FLAGS: 0,
  GSO_TYPE: 1,
  HDR_LEN: 2,
  GSO_SIZE: 4,
  CSUM_START: 6,
  CSUM_OFFSET: 8,
  NUM_BUFFERS: 10,
  LENGTH: 12,
  /** Legacy, without MRG_RXBUF: no `num_buffers` (§5.1.6.1). */
  LEGACY_LENGTH: 10,
} as const;
export const HeaderFlag = { NEEDS_CSUM: 1, DATA_VALID: 2 } as const;
export const Gso = { NONE: 0, TCPV4: 1, UDP: 3, TCPV6: 4, UDP_L4: 5, ECN: 0x80 } as const;

/** Control commands: class, then command, then data; the device answers one byte (§5.1.6.5). */
export const Control = { CLASS: 0, COMMAND: 1, DATA: 2 } as const;
export const Ack = { OK: 0, ERR: 1 } as const;
export const Class = { RX: 0, MAC: 1, VLAN: 2, ANNOUNCE: 3, MQ: 4, GUEST_OFFLOADS: 5 } as const;
export const Rx = { PROMISC: 0, ALLMULTI: 1, ALLUNI: 2, NOMULTI: 3, NOUNI: 4, NOBCAST: 5 } as const;
export const Mac = { TABLE_SET: 0, ADDR_SET: 1 } as const;
export const Vlan = { ADD: 0, DEL: 1 } as const;
export const Announce = { ACK: 0 } as const;
export const Mq = { VQ_PAIRS_SET: 0 } as const;
export const GuestOffloads = { SET: 0 } as const;

/** Entries of each table of addresses that are kept; longer tables pass everything of their sort (§5.1.6.5.2). */
export const MAX_TABLE = 64;

/** Largest frame: 64 KiB of segmentation offload and an Ethernet header with a VLAN tag. */
export const MAX_FRAME = 65_553;
/** Smallest frame: an Ethernet header. */
export const MIN_FRAME = 14;
/** Frames one large frame may become: more than 64 KiB in segments of the least size TCP allows. */
export const MAX_PIECES = 2048;

/** Ethernet (IEEE 802.3): offsets, types, tags (802.1Q). */
export const Ethernet = { DESTINATION: 0, SOURCE: 6, TYPE: 12, HEADER: 14, TAG: 4 } as const;
export const EtherType = { IPV4: 0x0800, IPV6: 0x86dd, VLAN: 0x8100, SERVICE_VLAN: 0x88a8 } as const;
/** IPv4 (RFC 791 §3.1) and IPv6 (RFC 8200 §3). */
export const Ipv4 = { LENGTH: 2, ID: 4, PROTOCOL: 9, CHECKSUM: 10, ADDRESSES: 12, HEADER: 20 } as const;
export const Ipv6 = { LENGTH: 4, NEXT_HEADER: 6, ADDRESSES: 8, HEADER: 40 } as const;
export const Protocol = { TCP: 6, UDP: 17 } as const;
/** TCP (RFC 9293 §3.1) and UDP (RFC 768). */
export const Tcp = { SEQUENCE: 4, DATA_OFFSET: 12, FLAGS: 13, CHECKSUM: 16, HEADER: 20 } as const;
export const TcpFlag = { FIN: 0x01, PSH: 0x08, CWR: 0x80 } as const;
export const Udp = { LENGTH: 4, CHECKSUM: 6, HEADER: 8 } as const;
