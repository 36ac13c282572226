export { HostDirectory, type HostDirectoryOptions } from "./directory/host-directory.ts";
export { DirectoryLock } from "./directory-lock.ts";
export { EventFd, FdWatch, poll, PollEvent } from "./events.ts";
export {
  canLockRange,
  fallocate,
  FallocateMode,
  RangeLock,
  seekData,
  seekHole,
  setRangeLock,
} from "./file-ranges.ts";
export {
  close,
  ftruncate,
  ioctl,
  ioctlBuffer,
  ioctlUnchecked,
  open,
  OpenFlag,
  OwnedDescriptor,
  read,
  setNonBlocking,
  write,
} from "./files.ts";
export { GatheredWrite } from "./gathered-write.ts";
export { HostRoutes } from "./host-routes.ts";
export { type InterfaceState, InterfaceWatch } from "./interface-watch.ts";
export {
  attachToBridge,
  interfaceMtu,
  setInterfaceMtu,
  setInterfaceUp,
} from "./interfaces.ts";
export { type Address, hasSystemCalls } from "./libc.ts";
export {
  CannotListen,
  listenAt,
  ListeningSocket,
  whyNoSocketAt,
  whySocketPathTooLong,
} from "./listening-socket.ts";
export {
  addressOf,
  addSeals,
  createMemfd,
  discardPages,
  mapOver,
  mapUnder,
  MOST_MAPPED_BYTES,
  PAGE_SIZE,
  Seal,
  sealsOf,
  SharedMapping,
} from "./mapping.ts";
export { enterNetworkNamespace } from "./namespaces.ts";
export { RootedBuffer } from "./rooted-buffer.ts";
export {
  acceptUnix,
  bindUnixDatagrams,
  connectUnix,
  connectUnixDatagrams,
  listenUnix,
  receiveMessage,
  type ReceivedMessage,
  sendMessage,
  socketPair,
} from "./sockets.ts";
export { errnoName, errnoNumber, nameErrno, SystemCallError } from "./system-call-error.ts";
export {
  adoptTapQueue,
  openTapQueue,
  setTapHeader,
  setTapOffload,
  setTapPersistent,
  type TapQueue,
  TunFlag,
  TunOffload,
  TunRequest,
} from "./tap.ts";
export { enterNamespaceOfTap } from "./tap-namespace.ts";
export {
  type VhostChannel,
  VhostNet,
  type VhostRegion,
  VhostRequest,
  type VhostRing,
} from "./vhost.ts";
export { gettid, interruptOn, nameThread, signalThread } from "./threads.ts";
