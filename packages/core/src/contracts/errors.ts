/** Stable, documented identifier of a failure. Match on this, never on the message. */
export type NorthbridgeErrorCode =
  | "NB_BACKEND"
  | "NB_BOOT_IMAGE"
  | "NB_CONFIG"
  | "NB_CYCLIC_TOKEN"
  | "NB_DEVICE"
  | "NB_DUPLICATE_ID"
  | "NB_DUPLICATE_TOKEN"
  | "NB_HOST"
  | "NB_LIFECYCLE"
  | "NB_MEMORY"
  | "NB_MISSING_TOKEN"
  | "NB_REGION_OVERLAP"
  | "NB_RESTORE"
  | "NB_SNAPSHOT"
  | "NB_UNKNOWN_PLUGIN";

/** Base of every error this project throws. */
export class NorthbridgeError extends Error {
  override readonly name: string = "NorthbridgeError";
  readonly code: NorthbridgeErrorCode;

  constructor(code: NorthbridgeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A snapshot that a device, a vCPU or a machine cannot load. */
export class RestoreError extends NorthbridgeError {
  override readonly name = "RestoreError";

  constructor(what: string, reason: string, options?: ErrorOptions) {
    super("NB_RESTORE", `${what}: cannot restore: ${reason}`, options);
  }
}

/** A device that broke its contract: it threw inside an access or a timer, or answered with what is no value. */
export class DeviceFault extends NorthbridgeError {
  override readonly name = "DeviceFault";
  /** Name of the device, or of its region. */
  readonly device: string;
  /** What it did, and in answer to what. */
  readonly reason: string;
  /** The guest's last accesses to it, oldest first, where there were any. */
  readonly accesses: readonly string[];

  constructor(device: string, reason: string, accesses: readonly string[], options?: ErrorOptions) {
    super("NB_DEVICE", `device ${device}: ${reason}`, options);
    this.device = device;
    this.reason = reason;
    this.accesses = accesses;
  }

  /** The same fault, with the accesses that led to it where it does not know them. */
  after(accesses: readonly string[]): DeviceFault {
    if (this.accesses.length > 0) return this;
    return new DeviceFault(this.device, this.reason, accesses, { cause: this.cause });
  }
}
