export { EventFd, poll, PollEvent } from "./events.ts";
export {
  close,
  ftruncate,
  ioctl,
  ioctlBuffer,
  ioctlUnchecked,
  open,
  OpenFlag,
  read,
  write,
} from "./files.ts";
export type { Address } from "./libc.ts";
export { addSeals, createMemfd, PAGE_SIZE, Seal, SharedMapping } from "./mapping.ts";
export { RootedBuffer } from "./rooted-buffer.ts";
export { receiveMessage, type ReceivedMessage, sendMessage, socketPair } from "./sockets.ts";
export { errnoName, errnoNumber, nameErrno, SystemCallError } from "./system-call-error.ts";
export { gettid, interruptOn, nameThread, signalThread } from "./threads.ts";
