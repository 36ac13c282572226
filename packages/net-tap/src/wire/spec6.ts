/** IPv6 header (RFC 8200 §3). Offsets are of the header. */
export const Ip6 = {
  VERSION: 0,
  PAYLOAD_LENGTH: 4,
  NEXT_HEADER: 6,
  HOP_LIMIT: 7,
  SOURCE: 8,
  DESTINATION: 24,
  HEADER_LENGTH: 40,
  /** RFC 8200 §5. */
  SMALLEST_MTU: 1280,
} as const;

/** Next header values of extension headers (RFC 8200 §4). */
export const Extension = {
  HOP_BY_HOP: 0,
  ROUTING: 43,
  FRAGMENT: 44,
  NO_NEXT: 59,
  DESTINATION_OPTIONS: 60,
} as const;

/** Fragment header (RFC 8200 §4.5). */
export const Fragment6 = {
  NEXT_HEADER: 0,
  OFFSET: 2,
  IDENTIFICATION: 4,
  LENGTH: 8,
  MORE: 1,
} as const;

/** ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861 §4). */
export const Icmp6 = {
  PROTOCOL: 58,
  UNREACHABLE: 1,
  ECHO: 128,
  ECHO_REPLY: 129,
  ROUTER_SOLICITATION: 133,
  ROUTER_ADVERTISEMENT: 134,
  NEIGHBOUR_SOLICITATION: 135,
  NEIGHBOUR_ADVERTISEMENT: 136,
  REDIRECT: 137,
  ADMINISTRATIVELY_PROHIBITED: 1,
  PORT_UNREACHABLE: 4,
} as const;

/** Options of neighbour discovery (RFC 4861 §4.6, RFC 8106 §5). Lengths count eight bytes. */
export const NdOption = {
  SOURCE_LINK_LAYER: 1,
  TARGET_LINK_LAYER: 2,
  PREFIX_INFORMATION: 3,
  MTU: 5,
  RECURSIVE_DNS_SERVER: 25,
} as const;

/** DHCPv6 (RFC 8415 §7, §8, §21). */
export const Dhcp6 = {
  SERVER_PORT: 547,
  CLIENT_PORT: 546,
  REPLY: 7,
  INFORMATION_REQUEST: 11,
  OPTION_CLIENT_ID: 1,
  OPTION_SERVER_ID: 2,
  OPTION_DNS_SERVERS: 23,
  OPTION_DOMAIN_LIST: 24,
} as const;
