import type { Message } from "../protocol/connection.ts";
import {
  ConfigHeader,
  InflightDescription,
  Region,
  Request,
  VringAddress,
  VringFd,
} from "../protocol/spec.ts";

/** Bytes of the payloads that are always the same. */
const LENGTHS: ReadonlyMap<number, number> = new Map<number, number>([
  [Request.GET_FEATURES, 0],
  [Request.SET_FEATURES, 8],
  [Request.SET_OWNER, 0],
  [Request.RESET_OWNER, 0],
  [Request.SET_LOG_BASE, 16],
  [Request.SET_VRING_NUM, 8],
  [Request.SET_VRING_ADDR, VringAddress.LENGTH],
  [Request.SET_VRING_BASE, 8],
  [Request.GET_VRING_BASE, 8],
  [Request.SET_VRING_KICK, 8],
  [Request.SET_VRING_CALL, 8],
  [Request.SET_VRING_ERR, 8],
  [Request.GET_PROTOCOL_FEATURES, 0],
  [Request.SET_PROTOCOL_FEATURES, 8],
  [Request.GET_QUEUE_NUM, 0],
  [Request.SET_VRING_ENABLE, 8],
  [Request.RESET_DEVICE, 0],
  [Request.GET_MAX_MEM_SLOTS, 0],
  [Request.ADD_MEM_REG, Region.FIRST + Region.LENGTH],
  [Request.REM_MEM_REG, Region.FIRST + Region.LENGTH],
  [Request.SET_STATUS, 8],
  [Request.GET_STATUS, 0],
]);

/** Whether the message has the payload and the descriptors that its kind has. */
export function isWellFormed({ request, payload, fds }: Message): boolean {
  const length = payload.byteLength;
  switch (request) {
    case Request.SET_MEM_TABLE: {
      const regions = length >= Region.FIRST ? payload.getUint32(0, true) : -1;
      return length === Region.FIRST + Region.LENGTH * regions && fds.length === regions;
    }
    case Request.GET_CONFIG:
    case Request.SET_CONFIG:
      return (
        fds.length === 0 &&
        length >= ConfigHeader.LENGTH &&
        length === ConfigHeader.LENGTH + payload.getUint32(ConfigHeader.SIZE, true)
      );
    case Request.GET_INFLIGHT_FD:
    case Request.SET_INFLIGHT_FD:
      return (
        (length === InflightDescription.LENGTH || length === InflightDescription.PADDED_LENGTH) &&
        fds.length === (request === Request.SET_INFLIGHT_FD ? 1 : 0)
      );
    case Request.SET_VRING_KICK:
    case Request.SET_VRING_CALL:
    case Request.SET_VRING_ERR:
      return length === 8 && fds.length === ((payload.getUint32(0, true) & VringFd.NO_FD) === 0 ? 1 : 0);
    case Request.SET_LOG_BASE:
    case Request.ADD_MEM_REG:
      return length === LENGTHS.get(request) && fds.length === 1;
    case Request.REM_MEM_REG: // some front ends pass one, of which nothing is made
      return length === LENGTHS.get(request) && fds.length <= 1;
    case Request.SET_LOG_FD:
    case Request.SET_BACKEND_REQ_FD:
      return fds.length === 1; // its payload means nothing
    default:
      return fds.length === 0 && (LENGTHS.get(request) ?? length) === length;
  }
}
