/** Ethernet II (IEEE 802.3 §3.1; RFC 894). Offsets are of the frame. */
export const Ethernet = {
  DESTINATION: 0,
  SOURCE: 6,
  TYPE: 12,
  HEADER_LENGTH: 14,
} as const;

/** EtherType numbers (IANA "IEEE 802 Numbers"). */
export const EtherType = {
  IPV4: 0x0800,
  ARP: 0x0806,
  IPV6: 0x86dd,
} as const;

/** ARP for IPv4 over Ethernet (RFC 826). Offsets are of the ARP packet. */
export const Arp = {
  HARDWARE: 0,
  PROTOCOL: 2,
  HARDWARE_LENGTH: 4,
  PROTOCOL_LENGTH: 5,
  OPERATION: 6,
  SENDER_MAC: 8,
  SENDER_IP: 14,
  TARGET_MAC: 18,
  TARGET_IP: 24,
  LENGTH: 28,
  REQUEST: 1,
  REPLY: 2,
} as const;

/** IPv4 header without options (RFC 791 §3.1). Offsets are of the header. */
export const Ip4 = {
  VERSION_IHL: 0,
  TOTAL_LENGTH: 2,
  IDENTIFICATION: 4,
  FRAGMENT: 6,
  TTL: 8,
  PROTOCOL: 9,
  CHECKSUM: 10,
  SOURCE: 12,
  DESTINATION: 16,
  HEADER_LENGTH: 20,
  DONT_FRAGMENT: 0x4000,
  MORE_FRAGMENTS: 0x2000,
  OFFSET_MASK: 0x1fff,
} as const;

/** IP protocol numbers (IANA "Protocol Numbers"). */
export const Protocol = {
  ICMP: 1,
  TCP: 6,
  UDP: 17,
} as const;

/** ICMP (RFC 792). */
export const Icmp = {
  TYPE: 0,
  CODE: 1,
  CHECKSUM: 2,
  REST: 4,
  HEADER_LENGTH: 8,
  ECHO_REPLY: 0,
  UNREACHABLE: 3,
  ECHO: 8,
  NET_UNREACHABLE: 0,
  HOST_UNREACHABLE: 1,
  PORT_UNREACHABLE: 3,
  /** RFC 1812 §5.2.7.1. */
  ADMINISTRATIVELY_PROHIBITED: 13,
} as const;

/** UDP (RFC 768). */
export const Udp = {
  SOURCE_PORT: 0,
  DESTINATION_PORT: 2,
  LENGTH: 4,
  CHECKSUM: 6,
  HEADER_LENGTH: 8,
} as const;

/** TCP header (RFC 9293 §3.1). */
export const Tcp = {
  SOURCE_PORT: 0,
  DESTINATION_PORT: 2,
  SEQUENCE: 4,
  ACKNOWLEDGMENT: 8,
  DATA_OFFSET: 12,
  FLAGS: 13,
  WINDOW: 14,
  CHECKSUM: 16,
  URGENT: 18,
  HEADER_LENGTH: 20,
} as const;

/** TCP control bits (RFC 9293 §3.1). */
export const TcpFlag = {
  FIN: 0x01,
  SYN: 0x02,
  RST: 0x04,
  PSH: 0x08,
  ACK: 0x10,
  URG: 0x20,
} as const;

/** TCP option kinds (RFC 9293 §3.1, RFC 7323 §2.2, RFC 2018 §2 and §3). */
export const TcpOption = {
  END: 0,
  NO_OPERATION: 1,
  MAXIMUM_SEGMENT_SIZE: 2,
  WINDOW_SCALE: 3,
  SACK_PERMITTED: 4,
  SACK: 5,
  TIMESTAMPS: 8,
} as const;

/** DHCP message (RFC 2131 §2). Offsets are of the UDP payload. */
export const Dhcp = {
  OP: 0,
  HTYPE: 1,
  HLEN: 2,
  XID: 4,
  SECS: 8,
  FLAGS: 10,
  CIADDR: 12,
  YIADDR: 16,
  SIADDR: 20,
  GIADDR: 24,
  CHADDR: 28,
  COOKIE: 236,
  OPTIONS: 240,
  MAGIC: 0x6382_5363,
  BOOTREQUEST: 1,
  BOOTREPLY: 2,
  SERVER_PORT: 67,
  CLIENT_PORT: 68,
  /** RFC 1542 §2.1: a reply is padded to the BOOTP message. */
  SMALLEST: 300,
} as const;

/** DHCP options (RFC 2132). */
export const DhcpOption = {
  PAD: 0,
  SUBNET_MASK: 1,
  ROUTER: 3,
  DNS: 6,
  HOST_NAME: 12,
  DOMAIN_NAME: 15,
  INTERFACE_MTU: 26,
  BROADCAST_ADDRESS: 28,
  REQUESTED_ADDRESS: 50,
  LEASE_TIME: 51,
  MESSAGE_TYPE: 53,
  SERVER_IDENTIFIER: 54,
  END: 255,
} as const;

/** DHCP message types (RFC 2132 §9.6). */
export const DhcpMessage = {
  DISCOVER: 1,
  OFFER: 2,
  REQUEST: 3,
  DECLINE: 4,
  ACK: 5,
  NAK: 6,
  RELEASE: 7,
  INFORM: 8,
} as const;

/** DNS message (RFC 1035 §4.1). */
export const Dns = {
  PORT: 53,
  ID: 0,
  FLAGS: 2,
  QUESTIONS: 4,
  ANSWERS: 6,
  AUTHORITIES: 8,
  ADDITIONALS: 10,
  HEADER_LENGTH: 12,
  RESPONSE: 0x8000,
  AUTHORITATIVE: 0x0400,
  RECURSION_DESIRED: 0x0100,
  RECURSION_AVAILABLE: 0x0080,
  OPCODE_MASK: 0x7800,
  SERVER_FAILURE: 2,
  NAME_ERROR: 3,
  REFUSED: 5,
  TYPE_A: 1,
  TYPE_AAAA: 28,
  CLASS_IN: 1,
} as const;

/** struct virtio_net_hdr before a frame: what is left undone of it (virtio 1.3 §5.1.6). Little-endian. */
export const VnetHeader = {
  FLAGS: 0,
  GSO_TYPE: 1,
  HDR_LEN: 2,
  GSO_SIZE: 4,
  CSUM_START: 6,
  CSUM_OFFSET: 8,
  NUM_BUFFERS: 10,
  LENGTH: 12,
  NEEDS_CSUM: 1,
  GSO_TCPV4: 1,
  GSO_TCPV6: 4,
} as const;
