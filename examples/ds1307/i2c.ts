import { token, type Token } from "@northbridge/sdk";

/** A chip on an I2C bus (NXP UM10204 §3.1), byte by byte. All of it happens at one instant of guest time. */
export interface I2cTarget {
  /** It is addressed: bytes follow in one direction. Also in the middle of a transfer, to turn it around. */
  start(isRead: boolean): void;
  /** Returns whether it acknowledges the byte. */
  write(byte: number): boolean;
  read(): number;
  stop(): void;
}

/** What a host of an I2C bus offers to chips. */
export interface I2cBus {
  /** Throws `NB_CONFIG` where the address, of 7 bits, is taken. */
  attach(address: number, target: I2cTarget): void;
}

/** Provided by the bus's host. */
export const I2cBus: Token<I2cBus> = token<I2cBus>("i2cBus");
