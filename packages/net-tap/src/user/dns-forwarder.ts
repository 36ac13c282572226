import { createSocket } from "node:dgram";
import { contains } from "../wire/address.ts";
import { get16 } from "../wire/bytes.ts";
import { Dns } from "../wire/spec.ts";
import { answeredAddresses, answerWith, failWith, parseQuestion, type Question } from "./dns-message.ts";
import type { UserNetwork } from "./options.ts";
import { isClosedAddress } from "./policy.ts";

const MOST_QUERIES = 128;
const PATIENCE_MS = 2500;

/**
 * Answers names from the table and asks the host's resolvers for the rest, each query from a port of its own. A name
 * from outside that resolves to this host, to a link-local address or into the guest's own network is refused: that
 * is how DNS rebinding gets in.
 */
export class DnsForwarder {
  readonly #network: UserNetwork;
  readonly #open = new Set<() => void>();

  constructor(network: UserNetwork) {
    this.#network = network;
  }

  /** Answers one query of at most 64 KiB by `reply`, once, now or later. What is no query gets no answer. */
  query(message: Uint8Array, reply: (answer: Uint8Array) => void): void {
    const question = parseQuestion(message);
    if (question === undefined) return;
    const addresses = this.#network.records.get(question.name);
    if (addresses !== undefined) {
      reply(answerWith(message, question, question.type === Dns.TYPE_A ? addresses : []));
      return;
    }
    if (this.#open.size >= MOST_QUERIES) {
      reply(failWith(message, question, Dns.REFUSED));
      return;
    }
    this.#ask(message.slice(), question, 0, reply);
  }

  close(): void {
    for (const stop of this.#open) stop();
  }

  #ask(message: Uint8Array, question: Question, index: number, reply: (answer: Uint8Array) => void): void {
    const resolver = this.#network.resolvers[index];
    if (resolver === undefined) {
      reply(failWith(message, question, Dns.SERVER_FAILURE));
      return;
    }
    const socket = createSocket("udp4");
    let over = false;
    const stop = (): void => {
      if (over) return;
      over = true;
      timer.cancel();
      this.#open.delete(stop);
      socket.close();
    };
    const next = (): void => {
      if (over) return;
      stop();
      this.#ask(message, question, index + 1, reply);
    };
    const timer = this.#network.scheduler.after(PATIENCE_MS, next);
    this.#open.add(stop);
    socket.on("error", next);
    socket.on("message", (answer, from) => {
      if (from.address !== resolver.address || from.port !== resolver.port || over) return;
      if (answer.length < Dns.HEADER_LENGTH || get16(answer, Dns.ID) !== get16(message, Dns.ID)) return;
      stop();
      reply(this.#isRebinding(answer) ? failWith(message, question, Dns.REFUSED) : answer);
    });
    socket.send(message, resolver.port, resolver.address);
  }

  #isRebinding(answer: Uint8Array): boolean {
    return answeredAddresses(answer).some(
      (address) => isClosedAddress(address) || contains(this.#network.subnet, address),
    );
  }
}
