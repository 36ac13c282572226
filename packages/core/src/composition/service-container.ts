import "reflect-metadata";
import { container, type DependencyContainer } from "tsyringe";
import type { Token } from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";

/** What a token is called in messages: the name given to `token()`. */
export const tokenName = (token: Token<unknown>): string =>
  (token.description ?? "unnamed").replace(/^northbridge:/, "");

/**
 * The services of one machine, in a child container of its own. Only values are registered: nothing is built by the
 * container, so nothing of one machine can be captured by another.
 */
export class ServiceContainer {
  readonly #container: DependencyContainer = container.createChildContainer();
  readonly #providers = new Map<symbol, string>();

  /** Throws `NB_DUPLICATE_TOKEN` naming both providers. */
  provide<T>(token: Token<T>, value: T, provider: string): void {
    const other = this.#providers.get(token);
    if (other !== undefined) {
      throw new NorthbridgeError(
        "NB_DUPLICATE_TOKEN",
        `${provider} provides "${tokenName(token)}", which ${other} provides already`,
      );
    }
    this.#providers.set(token, provider);
    this.#container.register<T>(token, { useValue: value });
  }

  find<T>(token: Token<T>): T | undefined {
    return this.#providers.has(token) ? this.#container.resolve<T>(token) : undefined;
  }

  /** Throws `NB_MISSING_TOKEN` naming `asker`. */
  get<T>(token: Token<T>, asker: string): T {
    if (!this.#providers.has(token)) {
      throw new NorthbridgeError(
        "NB_MISSING_TOKEN",
        `${asker} requires "${tokenName(token)}", which nobody provides`,
      );
    }
    return this.#container.resolve<T>(token);
  }

  has(token: Token<unknown>): boolean {
    return this.#providers.has(token);
  }

  close(): void {
    this.#container.reset();
    this.#providers.clear();
  }
}
