import { FdWatch } from "@northbridge/linux";

/** Tells once that a non-blocking descriptor, whose write found no room, takes more. */
export class RoomWatch {
  #watch: FdWatch | undefined;

  /** Waits for room of `fd`, unless this waits already. */
  wait(fd: number, onRoom: () => void): void {
    this.#watch ??= new FdWatch(
      fd,
      () => {
        this.close();
        onRoom();
      },
      { writable: true },
    );
  }

  close(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }
}
