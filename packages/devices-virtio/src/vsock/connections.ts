import { Connection } from "./connection.ts";
import { FIRST_HOST_PORT, MAX_CONNECTIONS } from "./spec.ts";

/** The streams of a device, by their ports. No more than {@link MAX_CONNECTIONS}. */
export class Connections implements Iterable<Connection> {
  readonly #byGuestPort = new Map<number, Map<number, Connection>>();
  readonly #all = new Set<Connection>();
  #nextHostPort = FIRST_HOST_PORT;

  get size(): number {
    return this.#all.size;
  }

  get(guestPort: number, hostPort: number): Connection | undefined {
    return this.#byGuestPort.get(guestPort)?.get(hostPort);
  }

  has(connection: Connection): boolean {
    return this.#all.has(connection);
  }

  /** Undefined where there is no room. The ports are not in use. */
  add(guestPort: number, hostPort: number): Connection | undefined {
    if (this.#all.size >= MAX_CONNECTIONS) return undefined;
    const connection = new Connection(guestPort, hostPort);
    const ofPort = this.#byGuestPort.get(guestPort) ?? new Map<number, Connection>();
    ofPort.set(hostPort, connection);
    this.#byGuestPort.set(guestPort, ofPort);
    this.#all.add(connection);
    return connection;
  }

  /** As `add`, with a port of the host that nobody uses. */
  addFromHost(guestPort: number): Connection | undefined {
    while (this.get(guestPort, this.#nextHostPort) !== undefined) this.#advance();
    const connection = this.add(guestPort, this.#nextHostPort);
    this.#advance();
    return connection;
  }

  delete(connection: Connection): void {
    if (!this.#all.delete(connection)) return;
    const ofPort = this.#byGuestPort.get(connection.guestPort);
    ofPort?.delete(connection.hostPort);
    if (ofPort?.size === 0) this.#byGuestPort.delete(connection.guestPort);
  }

  clear(): void {
    this.#all.clear();
    this.#byGuestPort.clear();
  }

  [Symbol.iterator](): Iterator<Connection> {
    return this.#all.values();
  }

  #advance(): void {
    this.#nextHostPort = this.#nextHostPort === 0x7fff_ffff ? FIRST_HOST_PORT : this.#nextHostPort + 1;
  }
}
