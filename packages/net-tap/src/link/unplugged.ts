import type { NetBackend } from "@northbridge/sdk";

/** A cable that leads nowhere: what stands in for an optional back end that the host refuses. */
export class Unplugged implements NetBackend {
  readonly mtu: number = 1500;

  send(): boolean {
    return true;
  }

  connect(): void {
    // Nothing ever comes.
  }

  resume(): void {
    // Nothing waits.
  }

  watchLink(listener: (isUp: boolean) => void): void {
    listener(false);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
